// Keeps the page fresh: when the server says that something has changed, the page reads itself again, unless somebody
// types, has chosen text, or looks elsewhere. Without JavaScript every page works, and stays as it was loaded.
"use strict";

(function () {
  const EVERY_MS = 2000;
  let last = 0;
  let waits = false;

  function isBusy(page) {
    const active = document.activeElement;
    const types = active && page.contains(active) && active.matches("input, select, textarea");
    const chosen = window.getSelection && String(window.getSelection()) !== "";
    return document.hidden || types || chosen || page.querySelector("details.skip[open]") !== null;
  }

  function refresh() {
    const page = document.getElementById("page");
    if (!page || !page.hasAttribute("data-live") || waits) return;
    if (isBusy(page)) {
      waits = true;
      window.setTimeout(function () { waits = false; refresh(); }, EVERY_MS);
      return;
    }
    const rest = last + EVERY_MS - Date.now();
    if (rest > 0) {
      waits = true;
      window.setTimeout(function () { waits = false; refresh(); }, rest);
      return;
    }
    last = Date.now();
    const open = Array.from(page.querySelectorAll("details[open] > summary[id]"), (summary) => summary.id);
    const focused = document.activeElement && document.activeElement.id;
    window.htmx.ajax("GET", window.location.pathname + window.location.search, {
      source: page, target: "#page", select: "#page", selectOOB: "#pill,#as-of", swap: "outerHTML",
    }).then(function () {
      open.forEach(function (id) {
        const summary = document.getElementById(id);
        if (summary) summary.parentElement.open = true;
      });
      const back = focused && document.getElementById(focused);
      if (back && document.activeElement !== back) back.focus({ preventScroll: true });
    });
  }

  function listen() {
    if (!window.EventSource || !document.querySelector("#page[data-live]")) return;
    const source = new EventSource(document.body.dataset.base + "/events");
    const live = document.getElementById("live");
    source.addEventListener("open", function () { live.hidden = false; });
    source.addEventListener("error", function () { live.hidden = true; });
    source.addEventListener("changed", refresh);
    window.addEventListener("pagehide", function () { source.close(); });
  }

  document.addEventListener("DOMContentLoaded", listen);
  document.addEventListener("visibilitychange", function () { if (!document.hidden) refresh(); });
})();
