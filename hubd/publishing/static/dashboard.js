// The dashboard while it is open: each section is replaced when the server sends a newer one.
// Law: it shows what the server has drawn, and decides nothing; without it the page is as of when it was loaded.
"use strict";

(() => {
  const page = document.querySelector("[data-events]");
  const link = document.getElementById("link");
  const AGAIN_MS = 5000;

  function replace(section, html) {
    const before = section.querySelector(".scroll");
    const left = before?.scrollLeft;
    const isFocused = before !== null && before === document.activeElement;
    section.innerHTML = html;
    const box = section.querySelector(".scroll");
    if (before === null || box === null) return;
    box.scrollLeft = left; // who reads at its end, or is there by the keyboard, stays there
    if (isFocused) box.focus({ preventScroll: true });
  }

  function follow() {
    const source = new EventSource(page.dataset.events);
    source.onopen = () => { link.textContent = "Live."; };
    source.onerror = () => {
      link.textContent = "Not connected: the figures may be old.";
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      setTimeout(follow, AGAIN_MS);
    };
    for (const section of page.querySelectorAll("[data-section]")) {
      source.addEventListener(section.dataset.section, (event) => replace(section, event.data));
    }
  }

  follow();
})();
