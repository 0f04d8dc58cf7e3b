"""Every section of mesh.toml and the struct that its service declares, services in the order in which they start."""

from msgspec import Struct

from aperture.settings import Settings as Aperture
from apiary.settings import Settings as Apiary
from counters.settings import Settings as Counters
from feedgen.settings import Settings as Feedgen
from pixie import keys as graphs
from pixie.settings import Settings as Pixie
from polaris.settings import Settings as Polaris
from prober.settings import Settings as Prober
from realpin.settings import Settings as Realpin
from roadrunner.settings import Settings as Roadrunner
from rockstore import keys as datasets
from rockstore.settings import Settings as Rockstore
from scorpion import keys as models
from scorpion.settings import Settings as Scorpion
from services.core.settings import DEPLOYMENT, ServiceSettings
from services.state import manifest as snapshots
from smartfeed.settings import Settings as Smartfeed
from web.settings import Settings as Web

SERVICE_SETTINGS: dict[str, type[ServiceSettings]] = {
    "roadrunner": Roadrunner,
    "rockstore": Rockstore,
    "apiary": Apiary,
    "polaris": Polaris,
    "aperture": Aperture,
    "realpin": Realpin,
    "counters": Counters,
    "smartfeed": Smartfeed,
    "pixie": Pixie,
    "scorpion": Scorpion,
    "feedgen": Feedgen,
    "prober": Prober,
    "web": Web,
}
#: The services of a mesh. Each is a package with an entry point, `<name>/__main__.py`.
SERVICES = tuple(SERVICE_SETTINGS)
SCHEMA: dict[str, type[Struct]] = {**DEPLOYMENT, **SERVICE_SETTINGS}
#: The first names of the keys of all blobs.
BLOBS = (models.MODELS, graphs.GRAPHS, datasets.DATASETS, snapshots.TOP)
