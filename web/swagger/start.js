// The packaged Swagger UI (4.15) reads OpenAPI 3.0 and refuses the number 3.1; it shows the
// parts of 3.1 that this description uses all the same, so only the number is changed, only here.
fetch("openapi.json")
  .then((answer) => answer.json())
  .then((spec) => SwaggerUIBundle({
    spec: { ...spec, openapi: "3.0.3", servers: [{ url: new URL(".", document.baseURI).pathname.replace(/\/$/, "") || "/" }] },
    dom_id: "#swagger-ui",
    deepLinking: false, // its links stand inside buttons, where no screen reader finds them
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
    onComplete: () => document.querySelector(".servers select")?.setAttribute("aria-label", "Server"),
  }));
