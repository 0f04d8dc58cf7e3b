// A classic script in <head>, on purpose: it must run before the first paint, or a reader
// who chose dark is flashed with white. Everything else on the page is a module.
(function () {
  "use strict";
  var KEY = "feedmesh.theme";
  var root = document.documentElement;
  var prefersDark = matchMedia("(prefers-color-scheme: dark)");

  function stored() {
    try { return localStorage.getItem(KEY); } catch (_) { return null; } // storage may be forbidden
  }

  function store(theme) {
    try {
      if (theme) localStorage.setItem(KEY, theme);
      else localStorage.removeItem(KEY);
    } catch (_) { /* the choice then lasts as long as the page */ }
  }

  function system() { return prefersDark.matches ? "dark" : "light"; }
  function shown() { return root.dataset.theme || system(); }

  function apply(theme) {
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    else delete root.dataset.theme;
  }

  function label(button) {
    var dark = shown() === "dark";
    button.setAttribute("aria-pressed", String(dark));
    button.title = dark ? "Switch to light" : "Switch to dark";
  }

  apply(stored());

  document.addEventListener("DOMContentLoaded", function () {
    var button = document.getElementById("theme-toggle");
    if (!button) return;
    label(button);
    button.addEventListener("click", function () {
      var next = shown() === "dark" ? "light" : "dark";
      // Choosing what the system already says means "follow the system" again.
      var choice = next === system() ? null : next;
      store(choice);
      apply(choice);
      label(button);
      document.dispatchEvent(new Event("themechange"));
    });
    prefersDark.addEventListener("change", function () {
      label(button);
      document.dispatchEvent(new Event("themechange"));
    });
  });
})();
