(() => {
  "use strict";
  const byId = id => document.getElementById(id);
  const facts = JSON.parse(byId("facts").textContent);
  const stage = byId("stage"), photo = byId("photo"), layers = [byId("map0"), byId("map1")];
  const MOST = Math.min(facts.max_pixels, 4e6);  // of a picture sent from here: more does not show on a screen
  const ACCEPTED = ["image/png", "image/jpeg"];
  let found = [], hidden = new Set(), running = null, waiting = null, at = null;

  const say = text => { byId("status").textContent = text; };
  const complain = text => { byId("trouble").textContent = text; if (text) say(""); };
  const percent = share => share >= .0995 || share === 0 ? `${Math.round(share * 100)} %`
    : share < .0005 ? "< 0.1 %" : `${(share * 100).toFixed(1)} %`;

  // -- to the server

  const canvasOf = (source, width, height) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").drawImage(source, 0, 0, width, height);
    return canvas;
  };

  // What is sent: the file itself where the server takes it, else a picture of it; null where this browser cannot show it.
  const prepared = async blob => {
    let bitmap;
    try { bitmap = await createImageBitmap(blob); } catch { return { bitmap: null, body: blob }; }
    const factor = Math.min(1, Math.sqrt(MOST / (bitmap.width * bitmap.height)));
    if (factor === 1 && ACCEPTED.includes(blob.type) && blob.size <= facts.max_bytes) return { bitmap, body: blob };
    const small = canvasOf(bitmap, Math.max(1, Math.floor(bitmap.width * factor)), Math.max(1, Math.floor(bitmap.height * factor)));
    return { bitmap: small, body: await new Promise(done => small.toBlob(done, "image/jpeg", .95)) };
  };

  const pause = (seconds, signal) => new Promise((done, stop) => {
    setTimeout(done, seconds * 1000);
    signal.addEventListener("abort", () => stop(signal.reason));
  });

  const ask = async (model, body, signal) => {
    const headers = { "Content-Type": body.type || "image/png" };
    if (byId("token").value) headers.Authorization = `Bearer ${byId("token").value}`;
    for (let tries = 4; ; tries--) {
      const query = new URLSearchParams({ format: "json", maps: "true", model: model.name });
      const answer = await fetch(`v1/segment?${query}`, { method: "POST", headers, body, signal });
      if (answer.ok) return answer.json();
      if (answer.status === 401) byId("access").hidden = false;
      const problem = await answer.json().catch(() => ({ detail: `the server answered ${answer.status}` }));
      if (answer.status !== 503 || tries === 0) throw new Error(problem.detail);
      const seconds = Math.min(Number(answer.headers.get("Retry-After")) || 1, 10);
      say(`The server is busy; trying again in ${seconds} s.`);
      await pause(seconds, signal);
    }
  };

  // An 8-bit grey PNG -> its values. Not through a canvas: browsers that guard against fingerprints change what is read there.
  const grey = async base64 => {
    const data = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0)), view = new DataView(data.buffer);
    const [width, height] = [view.getUint32(16), view.getUint32(20)], parts = [];
    for (let at = 8; at < data.length;) {
      const size = view.getUint32(at);
      if (view.getUint32(at + 4) === 0x49444154) parts.push(data.subarray(at + 8, at + 8 + size));
      at += size + 12;
    }
    const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
    const rows = new Uint8Array(await new Response(stream).arrayBuffer()), values = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) {
      const filter = rows[y * (width + 1)], line = y * width;
      for (let x = 0; x < width; x++) {
        const left = x ? values[line + x - 1] : 0, up = y ? values[line + x - width] : 0, corner = x && y ? values[line + x - width - 1] : 0;
        let guess = [0, left, up, (left + up) >> 1][filter];
        if (filter === 4) {
          const p = left + up - corner, a = Math.abs(p - left), b = Math.abs(p - up), c = Math.abs(p - corner);
          guess = a <= b && a <= c ? left : b <= c ? up : corner;
        }
        values[line + x] = rows[y * (width + 1) + 1 + x] + guess;
      }
    }
    return values;
  };

  const take = async blob => {
    running?.abort(new DOMException("another image", "AbortError"));
    const mine = running = new AbortController();
    waiting = blob;
    complain("");
    say("Looking at the image ...");
    try {
      const { bitmap, body } = await prepared(blob);
      const start = performance.now(), answers = [];
      for (const model of facts.models) {
        const answer = await ask(model, body, mine.signal);
        const [labels, confidence] = await Promise.all([grey(answer.maps.labels), grey(answer.maps.confidence)]);
        answers.push({ ...answer, model, labels, confidence_map: confidence });
      }
      mine.signal.throwIfAborted();
      byId("access").hidden = true;
      waiting = null;
      show(bitmap, answers);
      say(`Done in ${((performance.now() - start) / 1000).toFixed(1)} s.`);
    } catch (error) {
      if (error.name !== "AbortError") complain(error instanceof TypeError ? "The server cannot be reached." : error.message);
    }
  };

  // -- the picture

  const show = (bitmap, answers) => {
    found = answers;
    hidden = new Set([...hidden].filter(name => answers.some(each => each.model.classes.includes(name))));
    at = null;
    const { width, height } = answers[0];
    for (const canvas of [photo, ...layers]) [canvas.width, canvas.height] = [width, height];
    if (bitmap) photo.getContext("2d").drawImage(bitmap, 0, 0, width, height);
    byId("work").hidden = false;
    zoomTo(1, 0, 0);
    document.body.classList.add("ready");
    const two = answers.length > 1;
    for (const id of ["map1", "name0", "name1", "divider", "comparing"]) byId(id).hidden = !two;
    answers.forEach((each, i) => { byId(`name${i}`).textContent = each.model.name; });
    paint();
    legend();
    compare();
    point(null);
    let text = `${width} x ${height}. ` + answers.map(each => `${each.model.name}: mean confidence ${percent(each.confidence)}, ${Math.round(each.ms.model)} ms`).join("; ") + ".";
    if (two) text += ` They agree on ${percent(agreement(...answers))} of the image.`;
    byId("summary").textContent = text;
  };

  const agreement = (one, other) => {
    const same = one.model.classes.map(name => other.model.classes.indexOf(name));
    let count = 0;
    one.labels.forEach((label, i) => { if (same[label] === other.labels[i]) count++; });
    return count / one.labels.length;
  };

  // Confidence 0..255 -> a colour, from violet over green to yellow, as bytes of RGBA.
  const SHADES = Uint32Array.from({ length: 256 }, (_, value) => {
    const stops = [[68, 1, 84], [33, 145, 140], [253, 231, 37]], place = value / 127.5, k = Math.min(1, Math.floor(place));
    const rgb = stops[k].map((low, c) => Math.round(low + (stops[k + 1][c] - low) * (place - k)));
    return new Uint32Array(new Uint8Array([...rgb, 255]).buffer)[0];
  });

  const paint = () => found.forEach((each, i) => {
    const context = layers[i].getContext("2d"), image = context.createImageData(each.width, each.height);
    const table = new Uint32Array(256), visible = [], pixels = new Uint32Array(image.data.buffer);
    each.model.colors.forEach((color, k) => {
      const value = parseInt(color.slice(1), 16), shown = !hidden.has(each.model.classes[k]);
      table[k] = new Uint32Array(new Uint8Array([value >> 16, value >> 8 & 255, value & 255, shown ? 255 : 0]).buffer)[0];
      visible[k] = shown;
    });
    if (byId("what").value === "confidence") for (let k = 0; k < pixels.length; k++) pixels[k] = visible[each.labels[k]] ? SHADES[each.confidence_map[k]] : 0;
    else for (let k = 0; k < pixels.length; k++) pixels[k] = table[each.labels[k]];
    context.putImageData(image, 0, 0);
  });

  const legend = () => {
    const rows = new Map();
    found.forEach((each, i) => each.classes.forEach(({ name, color, share }) => {
      const row = rows.get(name) ?? { name, color, shares: found.map(() => 0) };
      row.shares[i] = share;
      rows.set(name, row);
    }));
    const most = row => Math.max(...row.shares), every = [...rows.values()];
    byId("classes").replaceChildren(...every.filter(most).sort((a, b) => most(b) - most(a)).map(row => {
      const item = document.createElement("li"), button = document.createElement("button");
      button.type = "button";
      button.dataset.name = row.name;
      button.innerHTML = '<svg viewBox="0 0 1 1" aria-hidden="true"><rect width="1" height="1"/></svg><span class="name"></span><span class="share"></span>';
      button.querySelector("rect").setAttribute("fill", row.color);
      button.querySelector(".name").textContent = row.name;
      button.querySelector(".share").textContent = row.shares.map(percent).join(" | ");
      button.addEventListener("click", () => {
        hidden.has(row.name) ? hidden.delete(row.name) : hidden.add(row.name);
        press();
      });
      item.append(button);
      return item;
    }));
    const absent = every.filter(row => !most(row)).map(row => row.name);
    byId("absent").textContent = absent.length ? `Not found: ${absent.join(", ")}.` : "";
    press();
  };

  const press = () => {
    for (const button of byId("classes").querySelectorAll("button")) button.setAttribute("aria-pressed", !hidden.has(button.dataset.name));
    paint();
  };

  const compare = () => {
    const share = Number(byId("compare").value);
    byId("compare-is").textContent = `${share} %`;
    if (found.length < 2) { layers[0].style.clipPath = ""; return; }
    layers[0].style.clipPath = `inset(0 ${100 - share}% 0 0)`;
    layers[1].style.clipPath = `inset(0 0 0 ${share}%)`;
    place(byId("divider"), share / 100, null);
  };

  // Puts a mark at a place of the picture, 0..1; the stage may be wider than the picture.
  const place = (mark, x, y) => {
    const inner = photo.getBoundingClientRect(), outer = stage.getBoundingClientRect();
    mark.style.left = `${inner.left - outer.left + x * inner.width}px`;
    if (y !== null) mark.style.top = `${inner.top - outer.top + y * inner.height}px`;
  };

  // What is at a pixel, for pointer and keyboard; null: nothing is pointed at.
  const point = (pixel, mark = false) => {
    byId("cross").hidden = !mark;
    byId("tip").hidden = !pixel;
    at = pixel ?? at;
    if (!pixel) return;
    const { width, height } = found[0], [x, y] = pixel;
    const texts = found.map(each => {
      const i = y * width + x, name = each.model.classes[each.labels[i]];
      return (found.length > 1 ? `${each.model.name}: ` : "") + `${name}, ${Math.round(each.confidence_map[i] / 2.55)} %`;
    });
    byId("there").textContent = `(${x}, ${y}) ${texts.join("; ")}`;
    const tip = byId("tip");
    tip.textContent = texts.join("\n");
    place(byId("cross"), (x + .5) / width, (y + .5) / height);
    place(tip, (x + .5) / width, (y + .5) / height);
    const right = x > width / 2, low = y > height / 2;
    tip.style.transform = `translate(${right ? "calc(-100% - 14px)" : "14px"}, ${low ? "calc(-100% - 10px)" : "14px"})`;
  };

  const pixelAt = event => {
    const box = photo.getBoundingClientRect(), { width, height } = found[0];
    const x = Math.floor((event.clientX - box.left) / box.width * width), y = Math.floor((event.clientY - box.top) / box.height * height);
    return x >= 0 && y >= 0 && x < width && y < height ? [x, y] : null;
  };

  // Zoom: the canvases are scaled about a corner; `view` is where that corner lies, in pixels of the stage.
  const MOST_ZOOM = 16;
  let view = { scale: 1, x: 0, y: 0 };
  const zoomTo = (scale, x, y) => {
    const now = Math.min(Math.max(scale, 1), MOST_ZOOM), box = photo.getBoundingClientRect(), outer = stage.getBoundingClientRect();
    const width = box.width / view.scale, height = box.height / view.scale;  // as it is without zoom
    const left = box.left - view.x - outer.left, top = box.top - view.y - outer.top;
    const inside = (value, start, size, room) => size <= room ? (room - size) / 2 - start : Math.min(Math.max(value, room - start - size), -start);
    view = { scale: now, x: inside(x - (x - view.x) * now / view.scale, left, width * now, outer.width),
      y: inside(y - (y - view.y) * now / view.scale, top, height * now, outer.height) };
    if (now === 1) view = { scale: 1, x: 0, y: 0 };
    for (const each of [photo, ...layers]) each.style.transform = now === 1 ? "" : `translate(${view.x}px, ${view.y}px) scale(${now})`;
    stage.classList.toggle("zoomed", now > 1);
    stage.classList.toggle("near", now * width > 2 * photo.width);
    byId("zoom-is").textContent = `${Math.round(100 * now)} %`;
    if (found.length) compare();
  };
  // The middle of the stage, or a place of the screen, as zoomTo takes it: from the corner without zoom.
  const focus = event => {
    const box = photo.getBoundingClientRect(), outer = stage.getBoundingClientRect();
    const [x, y] = event ? [event.clientX, event.clientY] : [outer.left + outer.width / 2, outer.top + outer.height / 2];
    return [x - (box.left - view.x), y - (box.top - view.y)];
  };
  byId("in").addEventListener("click", () => zoomTo(view.scale * 1.5, ...focus()));
  byId("out").addEventListener("click", () => zoomTo(view.scale / 1.5, ...focus()));
  byId("fit").addEventListener("click", () => zoomTo(1, 0, 0));
  stage.addEventListener("wheel", event => {
    if (!event.ctrlKey && view.scale === 1) return;  // a plain wheel scrolls the page
    event.preventDefault();
    zoomTo(view.scale * Math.exp(-event.deltaY / 300), ...focus(event));
  }, { passive: false });

  let drawing = 0, grip = null;
  stage.addEventListener("pointermove", event => {
    if (grip) {
      const [dx, dy] = [event.clientX - grip[0], event.clientY - grip[1]];
      grip = [event.clientX, event.clientY];
      view = { ...view, x: view.x + dx, y: view.y + dy };
      for (const each of [photo, ...layers]) each.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
      zoomTo(view.scale, 0, 0);  // not beyond its edges
    }
    cancelAnimationFrame(drawing);
    drawing = requestAnimationFrame(() => point(pixelAt(event)));
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { grip = null; });
  stage.addEventListener("pointerdown", event => {
    point(pixelAt(event), event.pointerType !== "mouse");
    if (view.scale > 1) { grip = [event.clientX, event.clientY]; stage.setPointerCapture(event.pointerId); }
  });
  stage.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") { cancelAnimationFrame(drawing); point(null); } });
  stage.addEventListener("blur", () => point(null));
  stage.addEventListener("keydown", event => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") point(null);
    if (event.key === "+" || event.key === "=") zoomTo(view.scale * 1.5, ...focus());
    if (event.key === "-") zoomTo(view.scale / 1.5, ...focus());
    if (!way || !found.length) return;
    event.preventDefault();
    const { width, height } = found[0], step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / 50));
    const [x, y] = at ?? [width >> 1, height >> 1], clamp = (value, size) => Math.min(Math.max(value, 0), size - 1);
    point([clamp(x + way[0] * step, width), clamp(y + way[1] * step, height)], true);
  });

  const divider = byId("divider");
  divider.addEventListener("pointerdown", event => { divider.setPointerCapture(event.pointerId); event.stopPropagation(); });
  divider.addEventListener("pointermove", event => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = photo.getBoundingClientRect();
    byId("compare").value = Math.round((event.clientX - box.left) / box.width * 100);
    compare();
  });
  byId("compare").addEventListener("input", compare);
  new ResizeObserver(() => found.length && compare()).observe(stage);
  byId("opacity").addEventListener("input", () => {
    byId("opacity-is").textContent = `${byId("opacity").value} %`;
    for (const layer of layers) layer.style.opacity = byId("opacity").value / 100;
  });
  byId("what").addEventListener("input", () => { byId("scale").hidden = byId("what").value === "classes"; paint(); });
  byId("all").addEventListener("click", () => { hidden.clear(); press(); });
  byId("none").addEventListener("click", () => { found.forEach(each => each.model.classes.forEach(name => hidden.add(name))); press(); });

  // -- saving

  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  byId("save-labels").addEventListener("click", async () => {
    for (const each of found) {
      const data = Uint8Array.from(atob(each.maps.labels), letter => letter.charCodeAt(0));
      save(new Blob([data], { type: "image/png" }), `labels-${each.model.name}.png`);
    }
  });
  byId("save-overlay").addEventListener("click", () => {
    const canvas = canvasOf(photo, photo.width, photo.height), context = canvas.getContext("2d"), edge = found.length > 1 ? byId("compare").value / 100 * canvas.width : canvas.width;
    context.globalAlpha = byId("opacity").value / 100;
    [[0, edge], [edge, canvas.width]].slice(0, found.length).forEach(([left, right], i) => {
      if (right > left) context.drawImage(layers[i], left, 0, right - left, canvas.height, left, 0, right - left, canvas.height);
    });
    canvas.toBlob(blob => save(blob, "overlay.png"));
  });

  // -- where images come from

  const first = files => [...files].find(file => file.type.startsWith("image/") || !file.type);
  const taken = files => {
    const file = first(files);
    if (file) take(file);
    else if (files.length) complain("That is no image; choose a PNG or JPEG file.");
  };
  byId("file").addEventListener("change", event => { taken(event.target.files); event.target.value = ""; });
  document.addEventListener("paste", event => { if (first(event.clipboardData.files)) taken(event.clipboardData.files); });
  document.addEventListener("dragover", event => { event.preventDefault(); byId("drop").classList.add("over"); });
  document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
  document.addEventListener("drop", event => {
    event.preventDefault();
    byId("drop").classList.remove("over");
    taken(event.dataTransfer.files);
  });
  byId("access").hidden = !facts.token;
  byId("access").addEventListener("submit", event => { event.preventDefault(); complain(""); if (waiting) take(waiting); });

  byId("example")?.addEventListener("click", async () => {
    try { await take(await (await fetch("example.jpg")).blob()); } catch { complain("The server cannot be reached."); }
  });

  const root = document.documentElement, theme = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  system.addEventListener("change", label);
  label();

  const video = byId("video"), shooting = byId("shooting");
  byId("camera").hidden = !navigator.mediaDevices?.getUserMedia;
  byId("camera").addEventListener("click", async () => {
    complain("");
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
      await video.play();
      shooting.showModal();
    } catch (error) { complain(`The camera cannot be used (${error.message}).`); }
  });
  byId("shoot").addEventListener("click", () => {
    canvasOf(video, video.videoWidth, video.videoHeight).toBlob(blob => { shooting.close(); take(blob); }, "image/jpeg", .95);
  });
  byId("leave").addEventListener("click", () => shooting.close());
  shooting.addEventListener("close", () => { video.srcObject?.getTracks().forEach(track => track.stop()); video.srcObject = null; });
})();
