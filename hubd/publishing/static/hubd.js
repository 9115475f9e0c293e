// What a page gains where scripts run: a theme that one chooses, copying, and a search that follows the typing.
// Law: nothing is shown by this alone but the buttons that need it, and nothing is asked of another server.
"use strict";

(() => {
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");

  // A browser may refuse to store anything; then the choice holds for the page.
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem("theme", theme); } catch { /* as above */ } };

  // Before the first paint: a page that turns dark afterwards would flash.
  const chosen = remembered();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);

  function offerThemes(button) {
    const name = () => {
      button.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", `${button.textContent} theme`);
    };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      remember(root.dataset.theme);
      name();
    });
    prefersDark.addEventListener("change", name);
    name();
    button.hidden = false;
  }

  function offerCopy(block) {
    const code = block.querySelector("pre");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      let done = "Copied";
      try {
        await navigator.clipboard.writeText(code.textContent.trimEnd());
      } catch { // over plain HTTP from another machine there is no clipboard
        getSelection().selectAllChildren(code);
        done = "Selected";
      }
      button.textContent = done;
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    block.append(button);
  }

  function boxed(pre) {
    const box = document.createElement("div");
    box.className = "code";
    pre.replaceWith(box);
    box.append(pre);
    return box;
  }

  // The form works by itself; here its answer takes the place of the old results while one types.
  function followTyping(form) {
    let latest = null;
    let pause = 0;
    const results = document.getElementById("results");
    const count = document.getElementById("count");
    async function search() {
      const wanted = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
      const url = `${form.action.split("?")[0]}${wanted.size ? `?${wanted}` : ""}`;
      latest?.abort();
      latest = new AbortController();
      try {
        const answer = await fetch(url, { signal: latest.signal });
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const found = page.getElementById("results");
        if (!answer.ok || found === null) return form.submit();
        results.replaceChildren(...found.childNodes);
        count.textContent = page.getElementById("count").textContent; // a live region: it is read aloud
        history.replaceState(null, "", url);
      } catch (error) {
        if (error.name !== "AbortError") form.submit(); // the browser says what is wrong better than a script
      }
    }
    form.addEventListener("input", () => {
      clearTimeout(pause);
      pause = setTimeout(search, 120);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(pause);
      search();
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    const theme = document.getElementById("theme");
    if (theme) offerThemes(theme);
    document.querySelectorAll(".prose pre").forEach(boxed);
    document.querySelectorAll(".code").forEach(offerCopy);
    document.querySelectorAll("form[data-live]").forEach(followTyping);
  });
})();
