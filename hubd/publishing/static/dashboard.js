// The dashboard while it is open: each section is replaced when the server sends a newer one.
// Law: it shows what the server has drawn, and decides nothing; without it the page is as of when it was loaded.
"use strict";

(() => {
  const page = document.querySelector("[data-events]");
  const link = document.getElementById("link");
  const AGAIN_MS = 5000;

  function follow() {
    const source = new EventSource(page.dataset.events);
    source.onopen = () => { link.textContent = "Live."; };
    source.onerror = () => {
      link.textContent = "Not connected: the figures may be old.";
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      setTimeout(follow, AGAIN_MS);
    };
    for (const section of page.querySelectorAll("[data-section]")) {
      source.addEventListener(section.dataset.section, (event) => { section.innerHTML = event.data; });
    }
  }

  follow();
})();
