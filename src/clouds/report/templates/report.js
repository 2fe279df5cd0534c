
"use strict";
(() => {
  const all = (what, where = document) => [...where.querySelectorAll(what)];
  const one = (what, where = document) => where.querySelector(what);
  const byId = id => document.getElementById(id);
  for (const each of all("#theme, .needs-script")) each.hidden = false;

  // Light and dark: the system's choice until the button is used.
  const root = document.documentElement, theme = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  system.addEventListener("change", label);
  label();

  // One slider for all pictures: photo, classes over it, mistakes over it.
  const sliders = all("#layer, #viewer-layer");
  sliders.forEach(slider => slider.addEventListener("input", () => {
    const value = Number(slider.value);
    sliders.forEach(each => { each.value = value; });
    root.style.setProperty("--classes", (.6 * (1 - Math.abs(value - 50) / 50)).toFixed(3));
    root.style.setProperty("--wrong", Math.max(0, value / 50 - 1).toFixed(3));
  }));

  // Which images are shown, and in which order: by the controls, or by a link from a number (`only`).
  const groups = all(".group"), controls = { domain: byId("by-domain"), name: byId("by-class"), order: byId("by-score") };
  const examples = new Map(groups.map(group => [group, all(".example", group)]));
  const scores = new Map(groups.flatMap(group => examples.get(group).map(each => [each, JSON.parse(each.dataset.scores)])));
  let only = null;
  const per = value => value === null || value === undefined ? "–" : (100 * value).toFixed(1);
  const rank = { low: pair => pair[1] ?? pair[0] ?? 2, high: pair => -(pair[1] ?? pair[0] ?? -2),
    gain: pair => pair[0] === null || pair[1] === null ? 2 : pair[0] - pair[1],
    loss: pair => pair[0] === null || pair[1] === null ? 2 : pair[1] - pair[0] };
  const arrange = () => {
    const name = controls.name.value, order = controls.order.value;
    for (const group of groups) {
      const every = examples.get(group), link = only && only.group === group ? only : null;
      const fits = each => link ? each.dataset[link.kind].split(" ").includes(link.value) : name in scores.get(each);
      const found = every.filter(fits), value = each => rank[order]((scores.get(each)[name]) ?? [null, null]);
      if (order) found.sort((a, b) => value(a) - value(b));
      const first = one(".first", group), rest = one(".rest > div", group);
      [...found, ...every.filter(each => !found.includes(each))].forEach((each, place) => {
        (place && rest ? rest : first).append(each);
        each.hidden = !found.includes(each);
        const [before, after] = scores.get(each)[name] ?? [];
        one(".picked", each).textContent = name && found.includes(each) ? `${name} IoU ${per(before)} → ${per(after)}` : "";
      });
      group.hidden = Boolean(controls.domain.value && controls.domain.value !== group.id) || (!link && !found.length);
      if (rest) {
        rest.parentElement.hidden = found.length < 2;
        if (link || name || order) rest.parentElement.open = true;
        one("summary", rest.parentElement).firstChild.textContent = `${found.length - 1} more of `;
      }
      const bar = one(".filter", group);
      bar.hidden = !link;
      if (link) one(".what", bar).textContent = `${found.length} of ${every.length} examples show ${link.text}.`;
    }
  };
  const names = new Set([...scores.values()].flatMap(Object.keys).filter(Boolean));
  controls.name?.append(...[...names].sort().map(name => new Option(name, name)));
  const clear = () => { for (const each of Object.values(controls)) each.value = ""; only = null; };
  for (const each of Object.values(controls)) each?.addEventListener("input", () => { only = null; arrange(); });
  one(".controls")?.addEventListener("submit", event => event.preventDefault());
  const show = (group, kind, value, text) => { clear(); only = { group, kind, value, text }; arrange(); };
  const target = () => byId(decodeURIComponent(location.hash.slice(1)));
  const reveal = () => {  // a link to an example that is hidden, or folded away
    const aim = target(), group = aim?.closest(".group");
    if (!group) return;
    if (aim.hidden || group.hidden) { clear(); arrange(); }
    const fold = aim.closest(".rest");
    if (fold && !fold.open) fold.open = true;
    aim.scrollIntoView();
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
  const viewer = byId("viewer"), stage = one(".stage", viewer), kinds = one(".kinds", viewer);
  let shown = [], at = 0, kind = "";
  const figures = () => all("figure[data-kind]", shown[at]);
  const look = () => {
    const every = figures(), figure = every.find(each => each.dataset.kind === kind) || every[0];
    kind = figure.dataset.kind;
    const small = one("svg, img", figure), big = small.cloneNode(true);
    for (const each of all("[id]", big)) each.removeAttribute("id");
    const box = small.viewBox?.baseVal ?? { width: small.getAttribute("width"), height: small.getAttribute("height") };
    big.style.setProperty("--shape", box.width / box.height);
    stage.replaceChildren(big);
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
    shown = all(".group:not([hidden]) .example:not([hidden])");
    at = shown.indexOf(example);
    kind = figure ? figure.dataset.kind : "joint";
    look();
    viewer.showModal();
  };
  viewer.addEventListener("keydown", event => {
    if (event.target.id === "viewer-layer") return;
    const act = { ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), ArrowUp: () => step(-1), ArrowDown: () => step(1) };
    if (!(event.key in act)) return;
    event.preventDefault();
    act[event.key]();
    if (!viewer.contains(document.activeElement)) viewer.focus();
  });
  viewer.addEventListener("close", () => { const link = one(".open", shown[at]), fold = link.closest(".rest");
    if (fold) fold.open = true;
    link.focus(); link.scrollIntoView({ block: "nearest" });
  });
  all("[data-step]", viewer).forEach(button => button.addEventListener("click", () => step(Number(button.dataset.step))));

  document.addEventListener("click", event => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const number = event.target.closest("[data-show]"), picture = event.target.closest(".open");
    if (number) show(byId(number.getAttribute("href").slice(1)), ...number.dataset.show.split(":"), number.dataset.text);
    else if (picture) { event.preventDefault(); open(picture.closest(".example"), event.detail ? event.target.closest("figure") : null); }
    else if (event.target.closest(".filter button")) { clear(); arrange(); }
    else if (event.target.closest("a[href^='#']")) setTimeout(reveal);
  });
})();
