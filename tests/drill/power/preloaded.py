"""Imported once by the process from which those that write and look are forked: it has no threads, and its kernels are loaded."""

from roadrunner import routing
from tests.drill.power import stores

routing.warm()
LOADED = (stores.Log, stores.View, stores.CarelessLog)
