// The explorer: unpacks the tables of the page, groups runs into curves over seeds, and draws them with uPlot.
"use strict";
(() => {
  const $ = (id) => document.getElementById(`explore-${id}`);
  const PAGE = JSON.parse(document.getElementById("explorer-data").textContent);
  const FLOOR = PAGE.floor;
  const MOST_LINES = 40, MOST_PANELS = 6, FRAME = 700;  // FRAME: milliseconds of a step of the slider
  const OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B87F00", "#2B93D1", "#8C6D31", "#777777"];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const EACH = -1;  // a filter that keeps every level, each as a line of its own
  let table, state, charts = [], timer = null, place = null;

  // ---- data ----

  /** The columns of a table: compressed float32, stored by the place of a byte in its number. */
  async function unpack(packed) {
    if (packed.columns) return packed.columns;
    const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const n = packed.rows, columns = {};
    [...packed.axes, ...packed.metrics].forEach(({key}, c) => {
      const whole = new Uint8Array(4 * n), from = 4 * n * c;
      for (let b = 0; b < 4; b++) for (let i = 0; i < n; i++) whole[4 * i + b] = planes[from + b * n + i];
      columns[key] = new Float32Array(whole.buffer);
    });
    packed.data = "";
    return (packed.columns = columns);
  }

  const axis = (key) => table.axes.find((a) => a.key === key);
  const settings = () => table.axes.filter((a) => a.role !== "seed");
  const isEach = (a) => state.filters[a.key] === EACH;

  /** A level as people read it. */
  function pretty(text) {
    if (text === "") return "not set";
    const x = Number(text);
    if (Number.isNaN(x)) return text.replaceAll("_", " ");
    return x !== 0 && (Math.abs(x) >= 1e5 || Math.abs(x) < 1e-3) ? x.toExponential().replace("e+", "e") : String(x);
  }
  const number = (x) => (x === 0 ? "0" : Math.abs(x) >= 1e4 || Math.abs(x) < 1e-3 ? x.toExponential(2) : x.toPrecision(3));
  const value = (y) => (y <= FLOOR ? `≤ ${FLOOR}` : number(y));

  function quantile(sorted, share) {
    const at = share * (sorted.length - 1), low = Math.floor(at);
    return sorted[low] + (at > low ? (sorted[low + 1] - sorted[low]) * (at - low) : 0);
  }

  /**
   * Curves of the chosen metric: one for each combination of the axes that are neither x nor filtered.
   * Runs of a curve with the same x differ in their seeds only.
   */
  function curves(filters) {
    const x = axis(state.x), kept = settings().filter((a) => a !== x);
    const each = kept.filter((a) => filters[a.key] === EACH);
    const fixed = kept.filter((a) => filters[a.key] !== EACH).map((a) => [table.columns[a.key], filters[a.key]]);
    const codes = each.map((a) => table.columns[a.key]), sizes = each.map((a) => a.levels.length);
    const along = table.columns[x.key], metric = table.columns[state.y], width = x.levels.length;
    // first the line of each row: rows are sorted, so that neighbours mostly share it
    const lines = new Map(), lineOf = new Int32Array(table.rows).fill(-1);
    let last = -1, line = -1;
    rows: for (let i = 0; i < table.rows; i++) {
      for (const [column, level] of fixed) if (column[i] !== level) continue rows;
      if (metric[i] !== metric[i]) continue;
      let id = 0;
      for (let a = 0; a < codes.length; a++) id = id * sizes[a] + codes[a][i];
      if (id !== last) {
        if (!lines.has(id)) lines.set(id, {number: lines.size, first: i});
        [last, line] = [id, lines.get(id).number];
      }
      lineOf[i] = line;
    }
    // then the values of each point of each line, side by side
    const end = new Int32Array(lines.size * width + 1);
    for (let i = 0; i < table.rows; i++) if (lineOf[i] >= 0) end[lineOf[i] * width + along[i] + 1]++;
    for (let c = 1; c < end.length; c++) end[c] += end[c - 1];
    const next = end.slice(), values = new Float64Array(end.at(-1));
    for (let i = 0; i < table.rows; i++) if (lineOf[i] >= 0) values[next[lineOf[i] * width + along[i]]++] = metric[i];
    return [...lines.entries()].sort((a, b) => a[0] - b[0]).map(([, {number, first}]) => {
      const levels = Object.fromEntries(each.map((a, n) => [a.key, codes[n][first]])), at = [];
      for (let code = 0; code < width; code++) {
        const cell = number * width + code, runs = end[cell + 1] - end[cell];
        if (!runs) continue;
        const sorted = values.subarray(end[cell], end[cell + 1]).sort();
        at.push({code, x: Number(x.levels[code]), runs, median: quantile(sorted, 0.5),
          low: quantile(sorted, 0.1), high: quantile(sorted, 0.9)});
      }
      return {levels, at};
    });
  }

  // ---- choices ----

  function option(select, text, val, chosen) {
    const made = new Option(text, val, false, chosen);
    select.add(made);
  }

  function fill(id, entries, chosen) {
    const select = $(id);
    select.replaceChildren();
    for (const [text, val] of entries) option(select, text, val, val === chosen);
  }

  /** Begin with a table: width along, test loss up, the axis of most interest in colour, few enough lines. */
  async function choose(index) {
    stop();
    table = PAGE.tables[index];
    await unpack(table);
    const numeric = settings().filter((a) => a.numeric && a.levels.length > 1);
    const x = (numeric.find((a) => a.key === "width") || numeric.find((a) => a.role === "budget") || numeric[0] || settings()[0]).key;
    const others = settings().filter((a) => a.key !== x && a.levels.length > 1);
    const slider = others.find((a) => a.key === "step");
    const rest = others.filter((a) => a !== slider);
    const colour = rest.find((a) => a.role === "budget") || rest.find((a) => a.key !== "data.label_noise") || rest[0];
    state = {x, y: table.metrics[0] && table.metrics[0].key, colour: colour ? colour.key : "", facet: "", filters: {}};
    // clean and noisy labels are not mixed, and a crossing begins with its last levels
    let lines = 1;
    for (const a of settings()) {
      const several = a === colour || (rest.includes(a) && a.key !== "data.label_noise" && lines * a.levels.length <= 12);
      if (several) lines *= a.levels.length;
      state.filters[a.key] = several || a.key === x ? EACH : a.levels.length - 1;
    }
    controls();
    draw();
  }

  function controls() {
    const every = settings(), numeric = every.filter((a) => a.numeric && a.levels.length > 1);
    fill("y", table.metrics.map((m) => [m.label, m.key]), state.y);
    fill("x", (numeric.length ? numeric : every.slice(0, 1)).map((a) => [a.label, a.key]), state.x);
    const others = [["none", ""], ...every.filter((a) => a.key !== state.x && a.levels.length > 1).map((a) => [a.label, a.key])];
    fill("colour", others, state.colour);
    fill("facet", others, state.facet);
    const box = $("filters");
    box.replaceChildren();
    for (const a of every.filter((b) => b.key !== state.x && b.levels.length > 1)) {
      const label = document.createElement("label"), select = document.createElement("select");
      select.id = `explore-only-${a.key}`;
      option(select, "each", EACH, isEach(a));
      a.levels.forEach((text, code) => option(select, pretty(text), code, state.filters[a.key] === code));
      select.onchange = () => { state.filters[a.key] = Number(select.value); free(a.key); controls(); draw(); };
      label.append(`${a.label} `, select);
      box.append(label);
    }
    const budget = sliding();
    $("slider").hidden = !budget;
    if (budget) {
      $("step").max = budget.levels.length - 1;
      $("step").value = isEach(budget) ? budget.levels.length - 1 : state.filters[budget.key];
      tell(budget);
    }
  }

  /** An axis with one level chosen is neither colour nor panels. */
  function free(key) {
    if (state.filters[key] === EACH) return;
    if (state.colour === key) state.colour = "";
    if (state.facet === key) state.facet = "";
  }

  function sliding() {
    const budgets = settings().filter((a) => a.role === "budget" && a.key !== state.x && a.levels.length > 2);
    return budgets.find((a) => a.key === "step") || budgets[0];
  }
  function tell(budget) {
    const text = isEach(budget) ? "each" : pretty(budget.levels[state.filters[budget.key]]);
    $("budget").textContent = `${budget.label}: ${text}`;
    $("step").setAttribute("aria-valuetext", text);
  }

  function slide(level) {
    const budget = sliding();
    state.filters[budget.key] = level;
    free(budget.key);
    controls();
    draw();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    $("play").textContent = "Play";
  }

  function play() {
    if (timer) return stop();
    const last = sliding().levels.length - 1;
    let level = 0;
    $("play").textContent = "Stop";
    slide(level);
    timer = setInterval(() => (level < last ? slide(++level) : stop()), FRAME);
  }

  // ---- drawing ----

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /** A colour for a level: along a scale where levels are ordered, else one of eight. */
  function tint(code) {
    const a = axis(state.colour);
    if (!a) return OKABE_ITO[0];
    if (!a.numeric || a.levels.length < 3) return OKABE_ITO[code % OKABE_ITO.length];
    const share = code / (a.levels.length - 1);
    return `hsl(${270 - 200 * share} 70% ${dark.matches ? 68 - 10 * share : 38 + 2 * share}%)`;
  }

  const named = (levels) => Object.entries(levels).map(([key, code]) => {
    const text = axis(key).levels[code];
    return `${axis(key).label} ${pretty(text)}`;
  }).join(", ") || "all runs";

  /** Errors of zero, and losses below the floor, are drawn at the lowest value that the axis has. */
  function floorOf(every) {
    if (!state.y.endsWith("error")) return FLOOR;
    let least = Infinity;
    for (const c of every) for (const p of c.at) if (p.median > 0) least = Math.min(least, p.median);
    return least / 2;
  }

  function draw() {
    const begun = performance.now();
    for (const chart of charts) chart.plot.destroy();
    charts = [];
    $("charts").replaceChildren();
    const every = curves(state.filters), budget = sliding();
    // a slider must not move the axis: its limits are those of all levels
    const whole = budget && !isEach(budget) ? curves({...state.filters, [budget.key]: EACH}) : every;
    const floor = floorOf(whole), shown = every.slice(0, MOST_LINES);
    let low = Infinity, high = -Infinity;
    for (const c of whole) for (const p of c.at) {
      if (p.low > 0 && Number.isFinite(p.low)) low = Math.min(low, Math.max(p.low, floor));
      if (Number.isFinite(p.high)) high = Math.max(high, p.high, floor);
    }
    const facet = axis(state.facet), panels = new Map();
    for (const c of shown) {
      const level = facet ? c.levels[facet.key] : 0;
      if (!panels.has(level)) panels.set(level, []);
      panels.get(level).push(c);
    }
    const parts = [...panels.entries()].slice(0, MOST_PANELS);
    for (const [level, lines] of parts) panel(facet ? `${facet.label} ${pretty(facet.levels[level])}` : "", lines, [low, high], floor, parts.length);
    key(shown);
    const notes = [];
    if (!every.length) notes.push("No finished run has these settings.");
    if (every.length > MOST_LINES) notes.push(`${every.length} lines, the first ${MOST_LINES} drawn: choose a value to see fewer.`);
    if (panels.size > MOST_PANELS) notes.push(`The first ${MOST_PANELS} of ${panels.size} panels.`);
    if (shown.some((c) => c.at.some((p) => p.median < floor))) notes.push(`Open triangles: at most ${number(FLOOR)}, or zero.`);
    $("note").textContent = notes.join(" ");
    $("reading").textContent = "";
    document.getElementById("explorer").dataset.milliseconds = (performance.now() - begun).toFixed(1);
  }

  function key(shown) {
    const list = $("key"), levels = [...new Set(shown.map((c) => c.levels[state.colour]))].filter((l) => l !== undefined);
    list.replaceChildren(...levels.sort((a, b) => a - b).map((level) => {
      const item = document.createElement("li"), mark = document.createElement("span");
      mark.style.background = tint(level);
      item.append(mark, `${axis(state.colour).label} ${pretty(axis(state.colour).levels[level])}`);
      return item;
    }));
  }

  function panel(title, lines, [low, high], floor, count) {
    const box = document.createElement("div"), room = $("charts").clientWidth;
    const wide = count > 1 && room > 640 ? room / 2 - 8 : room;
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `Chart ${title}: ${lines.length} lines. Arrow keys move, Enter gives the command.`);
    $("charts").append(box);
    const xs = [...new Set(lines.flatMap((c) => c.at.map((p) => p.x)))].sort((a, b) => a - b);
    const index = new Map(xs.map((x, i) => [x, i]));
    const data = [xs], series = [{}], bands = [];
    for (const c of lines) {
      const column = (name) => {
        const values = Array(xs.length).fill(null);
        for (const p of c.at) values[index.get(p.x)] = Math.max(p[name], floor);
        return values;
      };
      const stroke = tint(c.levels[state.colour] ?? 0);
      data.push(column("median"), column("low"), column("high"));
      series.push({stroke, width: 1.6, spanGaps: true, points: {show: xs.length <= 30, size: 5, fill: stroke}});
      series.push({points: {show: false}, width: 0, spanGaps: true}, {points: {show: false}, width: 0, spanGaps: true});
      bands.push({series: [data.length - 1, data.length - 2], fill: stroke.replace(")", " / .15)").replace(/^#(......)$/, "#$126")});
    }
    const logX = xs[0] > 0 && xs.at(-1) / xs[0] > 4, ink = css("--ink"), grid = {stroke: css("--line"), width: 1};
    const ticks = (u, splits) => splits.map((v) => (v === null ? "" : pretty(String(Number(v.toPrecision(3))))));
    const spread = Math.max((high / low) ** 0.04, 1.05);
    const chart = {lines, xs, box, floor, line: 0, at: -1};
    chart.plot = new uPlot({
      width: wide, height: Math.min(420, Math.max(260, wide * 0.6)), title, legend: {show: false},
      scales: {x: {time: false, distr: logX ? 3 : 1}, y: {distr: 3, range: () => [low / spread, high * spread]}},
      axes: [{stroke: ink, grid, values: ticks, space: 34, label: axis(state.x).label, labelSize: 20},
        {stroke: ink, grid, values: ticks, size: 62, label: table.metrics.find((m) => m.key === state.y).label, labelSize: 20}],
      series, bands, cursor: {drag: {x: false, y: false}, points: {show: false}},
      hooks: {draw: [(u) => marks(u, chart)], setCursor: [(u) => hover(u, chart)]},
    }, data, box);
    chart.plot.over.addEventListener("click", () => command(chart));
    box.addEventListener("keydown", (event) => move(event, chart));
    charts.push(chart);
  }

  /** The threshold, triangles for what lies below the axis, and a ring around the point that is read. */
  function marks(u, chart) {
    const {ctx} = u;
    ctx.save();
    if (state.x === "width" && table.threshold) {
      const x = u.valToPos(table.threshold, "x", true);
      if (x >= u.bbox.left && x <= u.bbox.left + u.bbox.width) {
        ctx.strokeStyle = css("--ink");
        ctx.setLineDash([2, 4]);
        ctx.beginPath();
        ctx.moveTo(x, u.bbox.top);
        ctx.lineTo(x, u.bbox.top + u.bbox.height);
        ctx.stroke();
        ctx.setLineDash([]);
      }
    }
    const size = 4 * devicePixelRatio;
    for (const c of chart.lines) for (const p of c.at) if (p.median < chart.floor) {
      const x = u.valToPos(p.x, "x", true), y = u.valToPos(chart.floor, "y", true);
      ctx.beginPath();
      ctx.moveTo(x - size, y - size);
      ctx.lineTo(x + size, y - size);
      ctx.lineTo(x, y + size);
      ctx.closePath();
      ctx.fillStyle = css("--paper");
      ctx.fill();
      ctx.strokeStyle = tint(c.levels[state.colour] ?? 0);
      ctx.stroke();
    }
    const p = reading(chart);
    if (p) {
      ctx.beginPath();
      ctx.arc(u.valToPos(p.x, "x", true), u.valToPos(Math.max(p.median, chart.floor), "y", true), 1.6 * size, 0, 7);
      ctx.strokeStyle = css("--ink");
      ctx.lineWidth = 2;
      ctx.stroke();
    }
    ctx.restore();
  }

  const reading = (chart) => chart.lines[chart.line]?.at.find((p) => p.x === chart.xs[chart.at]);

  /** The line nearest to the pointer at the nearest x. */
  function hover(u, chart) {
    if (u.cursor.idx == null || u.cursor.top < 0) return;
    let best = Infinity, line = chart.line;
    chart.lines.forEach((c, i) => {
      const p = c.at.find((q) => q.x === chart.xs[u.cursor.idx]);
      const away = p ? Math.abs(u.valToPos(Math.max(p.median, chart.floor), "y") - u.cursor.top) : Infinity;
      if (away < best) [best, line] = [away, i];
    });
    if (best < Infinity) read(chart, line, u.cursor.idx);
  }

  function read(chart, line, at) {
    if (chart.line === line && chart.at === at && place === chart) return;
    const before = place;
    [chart.line, chart.at, place] = [line, at, chart];
    if (before && before !== chart && charts.includes(before)) { before.at = -1; before.plot.redraw(false, false); }
    const p = reading(chart);
    if (p) {
      const band = p.runs > 1 ? ` [${value(p.low)}, ${value(p.high)}], ${p.runs} runs` : ", one run";
      const up = table.metrics.find((m) => m.key === state.y).label;
      $("reading").textContent = `${axis(state.x).label} ${pretty(String(p.x))}: ${up} ${value(p.median)}${band} (${named(chart.lines[line].levels)})`;
    }
    chart.plot.redraw(false, false);
  }

  function move(event, chart) {
    const lines = chart.lines.length, points = chart.xs.length, at = Math.max(chart.at, 0);
    const to = {
      ArrowRight: [chart.line, chart.at < 0 ? 0 : Math.min(at + 1, points - 1)], ArrowLeft: [chart.line, Math.max(at - 1, 0)],
      ArrowUp: [(chart.line + 1) % lines, at], ArrowDown: [(chart.line + lines - 1) % lines, at],
      Home: [chart.line, 0], End: [chart.line, points - 1],
    }[event.key];
    if (event.key === "Enter") command(chart);
    else if (to) read(chart, ...to);
    else return;
    event.preventDefault();
  }

  /** The command that makes the runs of the point that is read. */
  function command(chart) {
    const p = reading(chart);
    if (!p) return;
    const levels = {...chart.lines[chart.line].levels, [state.x]: p.code};
    for (const a of settings()) if (!(a.key in levels)) levels[a.key] = state.filters[a.key];
    const seeds = table.axes.filter((a) => a.role === "seed").map((a) => [a, new Set()]);
    for (let i = 0; i < table.rows; i++) {
      if (Object.entries(levels).every(([k, code]) => table.columns[k][i] === code)) for (const [a, seen] of seeds) seen.add(table.columns[a.key][i]);
    }
    const words = [...table.fixed];
    for (const a of settings()) if (a.key !== "step" && a.levels[levels[a.key]] !== "") words.push(`${a.key}=${a.levels[levels[a.key]]}`);
    for (const [a, seen] of seeds) words.push(`${a.key}=${[...seen].sort((s, t) => s - t).map((code) => a.levels[code]).filter(Boolean).join(",")}`);
    const quoted = [...words, `name=${table.name}`].filter((w) => !w.endsWith("=")).map((w) => (/^[\w=.,+\/:-]*$/.test(w) ? w : `'${w.replaceAll("'", `'"'"'`)}'`));
    $("command").textContent = `python -m dd.run${quoted.some((w) => w.includes(",")) ? " -m" : ""} ${quoted.join(" ")}`;
    $("command-box").hidden = false;
  }

  // ---- start ----

  if (!PAGE.tables.length || !("DecompressionStream" in window)) return;
  document.getElementById("explorer").hidden = false;
  fill("table", PAGE.tables.map((t, i) => [t.title, i]), 0);
  $("table").onchange = () => choose(Number($("table").value));
  $("y").onchange = () => { state.y = $("y").value; draw(); };
  $("x").onchange = () => {
    const before = state.x;
    state.x = $("x").value;
    state.filters[before] = axis(before).levels.length - 1;
    state.filters[state.x] = EACH;
    if (state.colour === state.x) state.colour = "";
    if (state.facet === state.x) state.facet = "";
    controls();
    draw();
  };
  for (const role of ["colour", "facet"]) $(role).onchange = () => {
    state[role] = $(role).value;
    if (state[role]) state.filters[state[role]] = EACH;
    controls();
    draw();
  };
  $("step").oninput = () => { stop(); slide(Number($("step").value)); };
  $("play").onclick = play;
  $("copy").onclick = () => navigator.clipboard.writeText($("command").textContent);
  for (const link of document.querySelectorAll("a[data-table]")) link.onclick = () => {
    const index = PAGE.tables.findIndex((t) => t.anchor === link.dataset.table);
    if (index >= 0) { $("table").value = index; choose(index); }
  };
  dark.addEventListener("change", draw);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
  choose(0);
})();
