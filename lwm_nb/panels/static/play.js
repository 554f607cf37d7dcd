// The page of the play panel (an anywidget): it draws the views that the session sends, and sends back keys,
// buttons and "drawn". It keeps no state of the game. Four parts: what is on the page, how a view is drawn,
// what a person can do, and how the page notices that nobody answers. A page that shows more (dream.js) appends
// itself to this one: an object with build, draw and listen in EXTRAS, and several panes in one picture.

const EXTRAS = [];

// ---- what is on the page ----------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  // JupyterLab's shortcuts would take the arrow keys of a slider; only what has the focus can refuse
  if ("tabindex" in attributes || ["button", "select", "input"].includes(tag))
    node.setAttribute("data-lm-suppress-shortcuts", "true");
  node.append(...children);
  return node;
}

function button(name, label, title) {
  return element("button", { type: "button", "data-testid": "play-" + name, title }, label);
}

function select(name, label) {
  const box = element("select", { "data-testid": "play-" + name, "aria-label": label });
  return [element("label", {}, label + " ", box), box];
}

function tick(name, label) {
  const box = element("input", { type: "checkbox", "data-testid": "play-" + name });
  return [element("label", { class: "lwm-tick" }, box, " " + label), box];
}

function build(el) {
  const p = {};
  p.stage = element("div", { class: "lwm-stage", tabindex: 0, role: "application",
    "data-testid": "play-stage", "aria-label": "Game" });
  addPanes(p, [""]);
  p.hint = element("p", { class: "lwm-hint" });
  p.pad = element("div", { class: "lwm-pad", role: "group", "aria-label": "Moves" });
  p.facts = element("div", { class: "lwm-facts", "data-testid": "play-facts" });
  p.movers = element("div", { class: "lwm-movers", role: "group", "aria-label": "Who plays" });
  p.table = element("div", { class: "lwm-moves", role: "table", "aria-label": "What the model thinks",
    "data-testid": "play-moves" });
  p.expectation = element("div", { class: "lwm-expectation", "data-testid": "play-expectation",
    role: "group", "aria-label": "What the world model expected" });
  p.gauge = element("div", { class: "lwm-gauge", "data-testid": "play-surprise" });
  p.history = element("div", { class: "lwm-history", "data-testid": "play-history" });
  p.score = element("div", { class: "lwm-score", "data-testid": "play-score", hidden: "" });

  p.play = button("play", "▶", "Play on, or pause");
  p.step = button("step", "Step", "One step by whoever plays");
  p.fresh = button("new", "New maze", "The next one");
  p.again = button("again", "Again", "The same one from its start");
  p.record = button("record", "● Record", "Keep this episode as a file and a film");
  p.live = button("live", "Back to the game", "Leave the replay");
  [p.sizeLabel, p.size] = select("size", "size");
  [p.rateLabel, p.rate] = select("rate", "moves/s");
  [p.heatLabel, p.heat] = select("heat", "heat map");
  [p.replayLabel, p.replay] = select("replay", "replay");
  [p.fogLabel, p.fog] = tick("fog", "fog");
  [p.pathLabel, p.path] = tick("path", "path");
  [p.arrowsLabel, p.arrows] = tick("arrows", "arrows");
  [p.timeLabel, p.time] = tick("real-time", "real time");
  p.slider = element("input", { type: "range", min: 0, value: 0, "data-testid": "play-slider",
    "aria-label": "Step of the episode" });
  p.where = element("span", { class: "lwm-where" });
  p.words = element("p", { class: "lwm-words", "aria-live": "polite", "data-testid": "play-words" });
  p.notice = element("p", { class: "lwm-notice", role: "status", "data-testid": "play-notice" });
  p.alarm = element("p", { class: "lwm-alarm", role: "alert", "data-testid": "play-alarm", hidden: "" });

  const row = (...items) => element("div", { class: "lwm-row" }, ...items);
  p.root = element("section", { class: "lwm-play", "data-testid": "play-panel", "aria-label": "Play panel" },
    p.alarm,
    element("div", { class: "lwm-main" },
      element("div", { class: "lwm-left" }, p.stage, p.hint, p.pad),
      element("div", { class: "lwm-right" }, p.facts, p.movers, p.score, p.table, p.expectation, p.gauge,
        p.history)),
    element("div", { class: "lwm-tools" },
      row(p.play, p.step, p.rateLabel, p.timeLabel, p.fresh, p.again, p.sizeLabel),
      row(p.fogLabel, p.pathLabel, p.arrowsLabel, p.heatLabel, p.record, p.replayLabel),
      element("div", { class: "lwm-time" }, p.slider, p.where, p.live)),
    element("div", { class: "lwm-foot" }, p.words, p.notice));
  for (const extra of EXTRAS) extra.build(p);
  el.append(p.root);
  return p;
}

// One canvas for each picture; several have names under them.
function addPanes(p, names) {
  if (p.canvases && p.stage.dataset.panes === names.join()) return;
  p.stage.dataset.panes = names.join();
  p.canvases = names.map((name, i) => element("canvas", { width: 300, height: 300,
    "data-testid": "play-canvas" + (i ? "-" + i : "") }));
  p.stage.replaceChildren(...p.canvases.map((canvas, i) => names.length === 1 ? canvas :
    element("figure", {}, canvas, element("figcaption", { class: "lwm-what" }, names[i]))));
}

// ---- how a view is drawn ----------------------------------------------------------------------------------

const number = (x, digits = 2) => x.toFixed(digits).replace("-", "−");

function bar(share, kind, text) {
  const fill = element("span", { class: "lwm-fill lwm-" + kind });
  fill.style.width = Math.round(100 * Math.min(1, Math.max(0, share))) + "%";
  return [element("span", { class: "lwm-track", "aria-hidden": "true" }, fill),
    element("span", { class: "lwm-number" }, text)];
}

function drawMoves(p, v) {
  const cell = (kind, ...items) =>
    element("span", { class: "lwm-cell lwm-c-" + kind, role: "cell" }, ...items);
  const sees = v.maze && v.moves[0].seen !== null;  // each move leads through an opening that is seen or not
  const shown = (sees || v.watched) && v.score.length === 0;
  p.table.hidden = !shown;
  if (!shown) return;
  const imagines = sees && v.imagines;
  const head = element("div", { class: "lwm-line lwm-head", role: "row" }, cell("glyph", "way"));
  if (imagines) head.append(cell("bar", "expected open"));
  if (sees) head.append(cell("seen", "seen"));
  if (v.watched) head.append(cell("bar", "worth (Q)"));
  const lines = v.moves.map((m) => {
    const line = element("div", { class: "lwm-line", role: "row", "data-move": m.name,
      "data-best": m.best }, cell("glyph", m.glyph || m.name));
    line.firstChild.setAttribute("aria-label", m.name);
    if (imagines) {
      const known = m.expected !== null;
      const sure = bar(known ? m.expected : 0, "expected", known ? number(m.expected) : "–");
      line.append(cell("bar", ...sure));
    }
    if (sees) {
      const right = m.expected === null ? null : (m.expected > 0.5) === m.seen;
      const mark = element("span", { class: right ? "lwm-right-mark" : "lwm-wrong-mark" },
        right === null ? "" : right ? "✓" : "✗");
      line.dataset.hit = right;
      line.append(cell("seen", element("span", {}, m.seen ? "open" : "wall"), mark));
    }
    if (v.watched) line.append(cell("bar", ...bar(m.share, m.best ? "best" : "worth", number(m.q))));
    return line;
  });
  p.table.replaceChildren(head, ...lines);
  p.table.dataset.columns = [imagines, sees, v.watched].map(Number).join("");
}

// Any other observation: two pictures, or a line for each number: what was expected (bar) and seen (tick).
async function drawExpectation(p, v, pictures) {
  const kind = v.expectation && v.score.length === 0 ? v.expectation.kind : "none";
  p.expectation.hidden = kind === "none";
  p.expectation.dataset.kind = kind;
  if (kind === "bars") p.expectation.replaceChildren(...expectedBars(v.expectation));
  if (kind !== "picture") return;
  const drawn = await Promise.all(["expected", "seen"].map((name, i) => captioned(name, pictures[i])));
  if (v.seq >= (p.drawn || 0)) p.expectation.replaceChildren(...drawn);
}

function expectedBars({ numbers, hidden }) {
  const lines = numbers.map((n) => {
    const [track, text] = bar(n.share, "expected", number(n.expected) + " · " + number(n.seen));
    const seen = element("span", { class: "lwm-seen" });
    seen.style.left = Math.round(100 * n.seenShare) + "%";
    track.append(seen);
    return element("div", { class: "lwm-scored", "data-number": n.name },
      element("span", { class: "lwm-name" }, n.name), track, text);
  });
  const more = hidden ? "; the " + hidden + " best guesses are not shown" : "";
  const title = "Expected (bar) · seen (tick)" + more;
  return [element("p", { class: "lwm-what" }, title), ...lines];
}

// On a machine under load, Chromium has failed on a good picture. What fails is asked for in another way, which
// needs no blob; a picture that cannot be read in either is an error that says what came.
async function decoded(data) {
  try {
    return await createImageBitmap(new Blob([data], { type: "image/png" }));
  } catch {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const image = new Image();
    image.src = "data:image/png;base64," + btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""));
    await image.decode().catch(() => {
      throw new Error("no picture: " + bytes.length + " bytes that begin with " + bytes.slice(0, 8));
    });
    return image;
  }
}

async function captioned(name, data) {
  const canvas = element("canvas", { "data-testid": "play-" + name, role: "img", "aria-label": name });
  if (data && data.byteLength) {
    const picture = await decoded(data);
    Object.assign(canvas, { width: picture.width, height: picture.height });
    canvas.getContext("2d").drawImage(picture, 0, 0);
  }
  return element("figure", {}, canvas, element("figcaption", { class: "lwm-what" }, name));
}

function drawBars(box, name, values, scale) {
  const bars = values.map((s, i) => {
    const one = element("span", { class: i === values.length - 1 ? "lwm-now" : "" });
    one.style.height = (s === null ? 3 : 3 + 97 * s / scale) + "%";
    return one;
  });
  box.replaceChildren(element("span", { class: "lwm-name" }, name),
    element("span", { class: "lwm-bars", "aria-hidden": "true" }, ...bars));
}

function drawSurprise(p, v) {
  p.gauge.hidden = p.history.hidden = !v.imagines;
  if (!v.imagines) return;
  const now = v.surprise;
  const paid = v.intrinsic_reward === null ? "" : "intrinsic reward " + number(v.intrinsic_reward);
  const text = element("span", { class: "lwm-paid" }, paid);
  p.gauge.replaceChildren(element("span", { class: "lwm-name" }, "surprise"),
    ...bar(now === null ? 0 : now / v.scale, "surprise", now === null ? "–" : number(now)), text);
  p.gauge.dataset.value = now === null ? "" : now;
  drawBars(p.history, "so far", v.history, v.scale);
}

function drawScore(p, v) {
  p.score.hidden = v.score.length === 0;
  p.root.dataset.done = v.over;
  if (p.score.hidden) return p.score.replaceChildren();
  const most = Math.max(...v.score.map((s) => s.steps));
  const text = (s) => (Number.isInteger(s.steps) ? s.steps : number(s.steps, 1)) + "";
  p.score.replaceChildren(element("h4", {}, "Steps from this start",
    element("small", {}, "DFS: mean of many tries")),
    ...v.score.map((s) => element("div", { class: "lwm-scored", "data-name": s.name, "data-steps": s.steps,
      "data-yours": s.yours }, element("span", { class: "lwm-name" }, s.name),
      ...bar(s.steps / most, s.yours ? "best" : "worth", text(s)))));
}

function drawFacts(p, v) {
  p.facts.replaceChildren(...v.facts.map(([name, value]) => element("div", { "data-fact": name },
    element("span", { class: "lwm-what" }, name), element("b", {}, value))));
  p.words.textContent = v.real_time && v.playing ? p.words.textContent : v.words;
  p.notice.textContent = v.recording ? "● Recording this episode from its start" : v.notice;
  p.where.textContent = (v.replaying ? "replay of " + v.game + ", step " : "step ") + v.at + " of " + v.last;
  p.hint.textContent = v.over && v.live ? "Enter: a new " + (v.maze ? "maze" : "episode") : v.hint;
}

async function drawPicture(p, v, data) {
  const picture = await decoded(data);
  if (v.seq < (p.drawn || 0)) return;
  p.drawn = v.seq;
  const names = v.panes || [""], gap = v.gap || 0, height = picture.height;
  const width = (picture.width - gap * (names.length - 1)) / names.length;
  const zoom = v.maze ? 1 : Math.max(1, Math.floor((names.length === 1 ? 420 : 280) / height));
  addPanes(p, names);
  p.root.dataset.panes = names.length;
  p.canvases.forEach((canvas, i) => {  // all of them before the page is painted again
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.style.width = width * zoom + "px";
    canvas.style.imageRendering = v.maze ? "auto" : "pixelated";
    canvas.getContext("2d").drawImage(picture, i * (width + gap), 0, width, height, 0, 0, width, height);
    canvas.dataset.seq = v.seq;
  });
}

function options(box, values, present, label = String) {
  const key = JSON.stringify(values);
  if (box.dataset.key !== key) {
    box.replaceChildren(...values.map((value) => element("option", { value }, label(value))));
    box.dataset.key = key;
  }
  box.value = present;
}

function drawTools(p, v, act) {
  const names = v.movers.map(([name]) => name).join();
  if (p.movers.dataset.names !== names) {
    p.movers.dataset.names = names;
    p.movers.replaceChildren(...v.movers.map(([name]) => {
      const one = element("button", { type: "button", "data-testid": "mover-" + name, "data-mover": name });
      one.onclick = () => act({ type: "mover", value: name });
      return one;
    }));
  }
  v.movers.forEach(([name, glyph], i) => {
    const one = p.movers.children[i];
    one.setAttribute("aria-pressed", v.mover === name);
    one.replaceChildren(name, element("span", { class: "lwm-advice" }, glyph));
    one.title = name === "you" ? "You play" : "Let " + name + " play on from here";
  });
  const pad = v.moves.map((m) => m.name).join();
  if (p.pad.dataset.names !== pad) {
    p.pad.dataset.names = pad;
    p.pad.replaceChildren(...v.moves.map((m, i) => {
      const one = element("button", { type: "button", "data-testid": "move-" + m.name, title: m.name,
        "aria-label": m.name }, m.glyph || m.name);
      one.hidden = m.name === "noop";
      one.onpointerdown = () => act({ type: "button", action: i });
      one.onpointerup = one.onpointerleave = (e) => e.buttons || e.type === "pointerup"
        ? act({ type: "button", action: null }) : null;
      one.onclick = (e) => {
        if (e.detail) return;
        act({ type: "button", action: i });
        act({ type: "button", action: null });
      };
      return one;
    }));
  }
  p.play.textContent = v.playing ? "❚❚ Pause" : "▶ Play";
  p.play.disabled = v.live && v.mover === "you" && !v.real_time;
  p.step.disabled = v.live && (v.over || (v.mover === "you" && !v.steps));
  p.fresh.textContent = v.maze ? "New maze" : "New game";
  p.record.textContent = v.recording ? "■ Stop and save" : v.over ? "● Save" : "● Record";
  p.record.setAttribute("aria-pressed", v.recording);
  p.sizeLabel.hidden = v.sizes.length === 0;
  p.fogLabel.hidden = p.pathLabel.hidden = p.heatLabel.hidden = !v.maze;
  p.arrowsLabel.hidden = !(v.maze && v.watched);
  p.replayLabel.hidden = v.recordings.length === 0;
  p.live.hidden = v.live;
  p.slider.max = v.last;
  p.slider.disabled = v.last === 0;
  if (v.heard < (p.changed || 0)) return;  // made before the last change of a control: do not take it back
  options(p.size, v.sizes, v.size, (n) => n + " × " + n);
  options(p.rate, v.rates, v.fps);
  options(p.heat, v.heats, v.settings.heat);
  options(p.replay, ["", ...v.recordings], "", (name) => name || "choose …");
  p.fog.checked = v.settings.fog;
  p.path.checked = v.settings.path;
  p.arrows.checked = v.settings.arrows;
  p.time.checked = v.real_time;
  p.slider.value = v.at;
}

async function draw(p, v, [data, ...pictures], act) {
  p.view = v;
  const picture = drawPicture(p, v, data);  // decoded while the rest is drawn
  drawFacts(p, v);
  drawMoves(p, v);
  const expectation = drawExpectation(p, v, pictures);
  drawSurprise(p, v);
  drawScore(p, v);
  drawTools(p, v, act);
  for (const extra of EXTRAS) extra.draw(p, v);
  p.stage.setAttribute("aria-label", v.game + ". " + v.hint);
  Object.assign(p.root.dataset, { step: v.at, mover: v.mover, playing: v.playing, live: v.live, game: v.game,
    recording: v.recording, size: v.size, moved: v.moved, maze: v.maze });
  await Promise.all([picture, expectation]);
}

// ---- what a person can do ---------------------------------------------------------------------------------

function listen(p, act) {
  const keyName = (e) => (e.key.length === 1 ? e.key.toLowerCase() : e.key);
  const release = () => act({ type: "blur" });
  // JupyterLab takes its shortcuts at the document, before the stage sees a key: only those with Ctrl, Alt or
  // Meta are let through (Ctrl+S saves), plain letters are the game's
  const shortcuts = (e) => {
    const plain = !(e.ctrlKey || e.metaKey || e.altKey);
    if (e.target !== p.stage) return;
    if (plain) p.stage.setAttribute("data-lm-suppress-shortcuts", "true");
    else p.stage.removeAttribute("data-lm-suppress-shortcuts");
  };
  window.addEventListener("keydown", shortcuts, true);
  p.stage.onkeydown = (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || !p.view) return;
    const key = keyName(e);
    const own = p.view.keys.includes(key);
    const fresh = key === "Enter" && p.view.over && p.view.live;
    if (!own && !fresh && key !== "Escape") return;
    e.preventDefault();
    e.stopPropagation();
    if (key === "Escape") {
      const notebook = p.root.closest(".jp-Notebook");
      p.stage.blur();
      if (notebook) notebook.focus({ preventScroll: true });
    } else if (!e.repeat) {
      act(fresh ? { type: "new" } : { type: "key", key });
    }
  };
  p.stage.onkeyup = (e) => {
    if (p.view && p.view.keys.includes(keyName(e))) act({ type: "keyup", key: keyName(e) });
  };
  p.stage.onblur = release;
  p.stage.onpointerdown = () => p.stage.focus({ preventScroll: true });
  p.play.onclick = () => act({ type: "play", value: !p.view.playing });
  for (const name of ["step", "again", "record", "live"]) p[name].onclick = () => act({ type: name });
  p.fresh.onclick = () => act({ type: "new" });
  const set = (name, value) => act({ type: "set", name, value });
  p.size.onchange = () => set("size", Number(p.size.value));
  p.rate.onchange = () => set("fps", Number(p.rate.value));
  p.heat.onchange = () => set("heat", p.heat.value);
  p.fog.onchange = () => set("fog", p.fog.checked);
  p.path.onchange = () => set("path", p.path.checked);
  p.arrows.onchange = () => set("arrows", p.arrows.checked);
  p.time.onchange = () => set("real_time", p.time.checked);
  p.replay.onchange = () => p.replay.value && act({ type: "replay", value: p.replay.value });
  for (const extra of EXTRAS) extra.listen(p, act);
  p.slider.oninput = () => act({ type: "seek", value: Number(p.slider.value) });
  return () => window.removeEventListener("keydown", shortcuts, true);
}

// ---- how the page notices that nobody answers -------------------------------------------------------------

const PATIENCE = 2500, PULSE = 5000;
const GONE = "The kernel has gone. A new one is started: wait until it is idle, then run the cell again. " +
  "If cells stay at [*], choose Kernel → Restart Kernel once more.";
const SILENT = "The kernel does not answer: it is busy with another cell, or it has gone. " +
  "Wait for it, or run the cell again.";

function render({ model, el }) {
  const p = build(el);
  let asked = 0, open = 0, since = 0, last = 0, visible = true;
  const alarm = (text) => {
    p.alarm.hidden = !text;
    p.alarm.textContent = text;
    p.root.dataset.alive = !text;
  };
  const act = (message) => {
    asked += 1;
    if (["set", "seek", "replay"].includes(message.type)) p.changed = asked;
    if (!open && message.type !== "keyup") [open, since] = [asked, performance.now()];
    model.send({ ...message, id: asked });
  };
  const received = async (message, buffers) => {
    if (message.type !== "view") return;
    last = performance.now();
    if (message.heard >= open) open = 0;
    alarm("");
    try {
      await draw(p, message, buffers, act);
    } finally {  // the session waits for this before it sends the next
      model.send({ type: "drawn", seq: message.seq });
    }
  };
  const watch = setInterval(() => {
    const now = performance.now();
    if (open && now - since > PATIENCE && now - last > PATIENCE) alarm(SILENT);
    else if (!open && visible && !document.hidden && now - last > PULSE) act({ type: "ping" });
  }, 500);
  const sight = new IntersectionObserver(([seen]) => { visible = seen.isIntersecting; });
  sight.observe(el);
  const gone = () => alarm(GONE);
  model.on("msg:custom", received);
  model.on("comm_live_update", gone);
  const deaf = listen(p, act);
  p.root.dataset.alive = true;
  act({ type: "ready" });
  return () => {
    clearInterval(watch);
    deaf();
    sight.disconnect();
    model.off("msg:custom", received);
    model.off("comm_live_update", gone);
  };
}

export default { render };
