
"use strict";
(() => {
  const all = (what, where = document) => [...where.querySelectorAll(what)];
  const one = (what, where = document) => where.querySelector(what);
  const byId = id => document.getElementById(id);
  for (const each of all("#theme, .needs-script")) each.hidden = false;

  // Pictures: with a script running, what stands inside noscript is text; it becomes a picture when it comes near.
  const draw = box => {
    const text = one("noscript", box);
    if (text) box.innerHTML = text.textContent;
    return one("img", box);
  };
  const watcher = new IntersectionObserver(entries => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) { watcher.unobserve(target); draw(target); }
  }, { rootMargin: "500px" });
  all(".lazy").forEach(box => watcher.observe(box));
  addEventListener("beforeprint", () => all(".lazy").forEach(draw));

  // Light and dark: the system's choice until the button is used.
  const root = document.documentElement, theme = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  system.addEventListener("change", label);
  label();

  // From a number to the images that show it: the link leads to the domain's examples, the others are hidden.
  const filter = (group, kind, value, text) => {
    const examples = all(".example", group), found = examples.filter(each => each.dataset[kind].split(" ").includes(value));
    examples.forEach(each => { each.hidden = !found.includes(each); });
    const bar = one(".filter", group);
    bar.hidden = false;
    one(".what", bar).textContent = `${found.length} of ${examples.length} examples show ${text}.`;
  };
  const showAll = group => {
    all(".example", group).forEach(each => { each.hidden = false; });
    one(".filter", group).hidden = true;
  };
  const target = () => byId(decodeURIComponent(location.hash.slice(1)));
  const reveal = () => {  // a link to an example that a filter hides
    const aim = target();
    if (aim && aim.hidden) { showAll(aim.closest(".group")); aim.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);

  // A matrix is one stop of the Tab key; arrows move between its linked cells.
  for (const table of all(".matrix")) {
    const links = all("a", table);
    links.forEach((link, place) => { link.tabIndex = place ? -1 : 0; });
    table.addEventListener("keydown", event => {
      const place = links.indexOf(event.target), column = event.target.closest("td")?.cellIndex;
      const inColumn = links.filter(link => link.closest("td").cellIndex === column), row = inColumn.indexOf(event.target);
      const next = { ArrowLeft: links[place - 1], ArrowRight: links[place + 1],
        ArrowUp: inColumn[row - 1], ArrowDown: inColumn[row + 1] };
      if (place < 0 || !(event.key in next)) return;
      event.preventDefault();
      const to = next[event.key];
      if (to) { event.target.tabIndex = -1; to.tabIndex = 0; to.focus(); }
    });
  }

  // The larger view of an example.
  const viewer = byId("viewer"), big = one(".stage img", viewer), kinds = one(".kinds", viewer);
  let shown = [], at = 0, kind = "photo";
  const figures = () => all("figure[data-kind]", shown[at]);
  const look = () => {
    const every = figures(), figure = every.find(each => each.dataset.kind === kind) || every[0];
    kind = figure.dataset.kind;
    const small = draw(one(".lazy", figure));
    Object.assign(big, { src: small.src, alt: small.alt, className: small.className });
    big.style.setProperty("--shape", small.getAttribute("width") / small.getAttribute("height"));
    one("h2", viewer).textContent = `${shown[at].getAttribute("aria-label")} (${at + 1} of ${shown.length})`;
    one(".numbers", viewer).textContent = one(".numbers", shown[at]).textContent.trim().replace(/\s+/g, " ");
    kinds.replaceChildren(...every.map(each => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = one("figcaption", each).textContent.trim().replace(/\s+/g, " ");
      button.setAttribute("aria-pressed", each === figure);
      button.addEventListener("click", () => { kind = each.dataset.kind; look(); kinds.children[every.indexOf(each)].focus(); });
      return button;
    }));
  };
  const step = by => { at = (at + by + shown.length) % shown.length; look(); };
  const turn = by => {
    const every = figures(), place = every.findIndex(each => each.dataset.kind === kind);
    kind = every[(place + by + every.length) % every.length].dataset.kind;
    look();
  };
  const open = (example, figure) => {
    shown = all(".example:not([hidden])");
    at = shown.indexOf(example);
    kind = figure ? figure.dataset.kind : "joint";
    look();
    viewer.showModal();
  };
  viewer.addEventListener("keydown", event => {
    const act = { ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), ArrowUp: () => step(-1), ArrowDown: () => step(1) };
    if (!(event.key in act)) return;
    event.preventDefault();
    act[event.key]();
    if (!viewer.contains(document.activeElement)) viewer.focus();
  });
  viewer.addEventListener("close", () => { const link = one(".open", shown[at]); link.focus(); link.scrollIntoView({ block: "nearest" }); });
  all("[data-step]", viewer).forEach(button => button.addEventListener("click", () => step(Number(button.dataset.step))));

  document.addEventListener("click", event => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const number = event.target.closest("[data-show]"), picture = event.target.closest(".open");
    if (number) filter(byId(number.getAttribute("href").slice(1)), ...number.dataset.show.split(":"), number.dataset.text);
    else if (picture) { event.preventDefault(); open(picture.closest(".example"), event.detail ? event.target.closest("figure") : null); }
    else if (event.target.closest(".filter button")) showAll(event.target.closest(".group"));
    else if (event.target.closest("a[href^='#']")) setTimeout(reveal);
  });
})();
