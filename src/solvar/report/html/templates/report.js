"use strict";
(async () => {
  const find = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const trouble = (text) => {
    const place = document.getElementById("trouble");
    place.textContent = text;
    place.hidden = false;
  };

  // --- unpacking: base 64 of gzip, little-endian numbers ---------------------------------------
  const bytes = (text) => {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  };
  const unpacked = (id) => {
    const packed = new Blob([bytes(document.getElementById(id).textContent)]);
    return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const numbers = (column) => {
    const raw = bytes(column.int16), view = new DataView(raw.buffer);
    const out = new Float32Array(raw.length / 2);
    for (let i = 0; i < out.length; i++) out[i] = column.scale * view.getInt16(2 * i, true);
    return out;
  };

  if (typeof DecompressionStream === "undefined") {
    trouble("This browser is too old to draw the charts of this page; the figures stand as pictures in the folder “figures” beside it.");
    return;
  }
  const data = JSON.parse(await unpacked("data"));

  // --- motion: mean + t·σ·component, in projection ---------------------------------------------
  const motion = data.motion;
  const edge = motion.edge, mean = motion.mean.map(numbers);
  const moving = motion.components.map((one, k) => ({
    shift: one.shift.map(numbers), top: one.top, at: motion.reach, started: null,
    canvases: find(`canvas[data-of="${k}"]`), slider: find(`input[data-of="${k}"]`)[0],
    told: find(`output[data-of="${k}"]`)[0], button: find(`button[data-of="${k}"]`)[0],
  }));
  const draw = (one) => {
    one.canvases.forEach((canvas, view) => {
      if (canvas.width !== edge) canvas.width = canvas.height = edge;
      const context = canvas.getContext("2d"), image = context.createImageData(edge, edge);
      const base = mean[view], shift = one.shift[view], gain = 255 / one.top;
      for (let y = 0; y < edge; y++) {
        for (let x = 0; x < edge; x++) {
          const from = y * edge + x;
          const to = 4 * ((edge - 1 - y) * edge + x); // maps count rows from below, pictures from above
          const grey = gain * (base[from] + one.at * shift[from]);
          image.data[to] = image.data[to + 1] = image.data[to + 2] = grey;
          image.data[to + 3] = 255;
        }
      }
      context.putImageData(image, 0, 0);
    });
    const sign = one.at < 0 ? "−" : "+";
    one.told.value = `${sign}${Math.abs(one.at).toFixed(2)} σ`;
    one.slider.value = one.at;
    one.slider.setAttribute("aria-valuetext", one.told.value);
  };
  const period = 4000; // milliseconds there and back
  const tick = (now) => {
    let busy = false;
    for (const one of moving) {
      if (one.started === null) continue;
      one.at = motion.reach * Math.cos((2 * Math.PI * (now - one.started)) / period);
      draw(one);
      busy = true;
    }
    if (busy) requestAnimationFrame(tick);
  };
  const play = (one, on) => {
    const idle = moving.every((other) => other.started === null);
    const phase = Math.acos(Math.max(-1, Math.min(1, one.at / motion.reach))) / (2 * Math.PI);
    one.started = on ? performance.now() - phase * period : null;
    one.button.textContent = on ? "Pause" : "Play";
    one.button.setAttribute("aria-pressed", on);
    if (on && idle) requestAnimationFrame(tick);
  };
  const all = document.getElementById("play-all");
  const tellAll = () => {
    const on = moving.some((one) => one.started !== null);
    all.textContent = on ? "Pause all" : "Play all";
    all.setAttribute("aria-pressed", on);
  };
  all.addEventListener("click", () => {
    const on = moving.every((one) => one.started === null);
    moving.forEach((one) => play(one, on));
    tellAll();
  });
  for (const one of moving) {
    one.button.addEventListener("click", () => { play(one, one.started === null); tellAll(); });
    one.slider.addEventListener("input", () => {
      const at = Number(one.slider.value);
      play(one, false);
      one.at = at;
      draw(one);
      tellAll();
    });
    draw(one);
  }

  // --- charts -----------------------------------------------------------------------------------
  const code = document.createElement("script");
  code.textContent = await unpacked("plotly");
  document.head.append(code);

  const night = matchMedia("(prefers-color-scheme: dark)");
  let dark = night.matches;
  const template = () => data.templates[dark ? "dark" : "light"];
  const config = { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtons: [["toImage"]] };
  for (const place of find(".chart[data-figure]")) {
    const figure = data.figures[place.dataset.figure];
    const layout = { ...figure.layout, template: template() };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) layout[key] = { ...layout[key], fixedrange: true };
    }
    Plotly.newPlot(place, figure.data, layout, config);
  }

  // --- particles --------------------------------------------------------------------------------
  const content = data.explorer, chart = document.getElementById("explorer");
  const chosen = { x: document.getElementById("axis-x"), y: document.getElementById("axis-y"), colour: document.getElementById("colour") };
  const kept = new Map();
  const column = (key, make) => {
    if (!kept.has(key)) kept.set(key, make());
    return kept.get(key);
  };
  const axis = (k) => column(`axis ${k}`, () => numbers(content.axes[k]));
  const canvas = document.createElement("canvas");
  // without WebGL a few thousand points still show what there is
  const type = canvas.getContext("webgl") ? "scattergl" : "scatter";
  const most = type === "scattergl" ? Infinity : 5000;
  const cloud = (rows, name, marker, inLegend) => {
    const x = axis(chosen.x.value), y = axis(chosen.y.value);
    const take = (values) => (rows === null ? values.subarray(0, Math.min(values.length, most)) : Float32Array.from(rows.slice(0, most), (i) => values[i]));
    return {
      type, mode: "markers", name, x: take(x), y: take(y), hoverinfo: "skip", showlegend: inLegend,
      marker: { size: content.size, opacity: 0.6, ...marker, ...(marker.color && marker.color.length && typeof marker.color !== "string" ? { color: take(marker.color) } : {}) },
    };
  };
  const density = () => {
    const i = Number(chosen.x.value), j = Number(chosen.y.value);
    const turned = i > j, cells = column(`density ${i} ${j}`, () => {
      const flat = bytes(content.density[turned ? `${j}-${i}` : `${i}-${j}`]), side = Math.sqrt(flat.length);
      return Array.from({ length: side }, (_, row) => turned
        ? Uint8Array.from({ length: side }, (_, k) => flat[k * side + row])
        : flat.subarray(row * side, (row + 1) * side));
    });
    const [left, right] = content.axes[i].range, [low, high] = content.axes[j].range;
    const dx = (right - left) / cells.length, dy = (high - low) / cells.length;
    return [{ type: "heatmap", z: cells, x0: left + dx / 2, dx, y0: low + dy / 2, dy, coloraxis: "coloraxis", zsmooth: "best", hoverinfo: "skip" }];
  };
  const traces = () => {
    if (chosen.colour.value === "density") return density();
    if (chosen.colour.value === "points") return [cloud(null, "particles", {}, false)];
    const colour = content.colours[chosen.colour.value];
    if (!colour.labels) {
      const [cmin, cmax] = colour.range;
      const color = column(`colour ${chosen.colour.value}`, () => numbers(colour));
      const colorbar = { title: { text: colour.title, side: "right" }, thickness: 10, len: 0.75, outlinewidth: 0, x: 1.01 };
      return [cloud(null, colour.title, { color, cmin, cmax, colorscale: content.scale, colorbar }, false)];
    }
    const groups = column(`colour ${chosen.colour.value}`, () => {
      const rows = colour.labels.map(() => []);
      bytes(colour.uint8).forEach((label, row) => rows[label].push(row));
      return rows;
    });
    const shades = dark ? colour.dark : colour.light;
    return groups.map((rows, k) => cloud(rows, colour.labels[k], { color: shades[k] }, true));
  };
  const title = (k) => ({ title: { text: content.axes[k].title }, range: [...content.axes[k].range] });
  const explore = () => {
    // a component against itself says nothing: the density of that pair is not there either
    for (const option of chosen.y.options) option.disabled = option.value === chosen.x.value;
    for (const option of chosen.x.options) option.disabled = option.value === chosen.y.value;
    const colour = content.colours[chosen.colour.value];
    Plotly.react(chart, traces(), {
      template: template(), xaxis: title(chosen.x.value), yaxis: title(chosen.y.value),
      legend: { title: { text: colour ? colour.title : "" }, itemsizing: "constant", x: 1.01, y: 1 },
      margin: { l: 64, r: 20, t: 30, b: 56 }, dragmode: "pan", hovermode: false,
      uirevision: `${chosen.x.value} ${chosen.y.value}`,
    }, { ...config, modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"], ["toImage"]] });
  };
  if (content.count <= 20000) chosen.colour.value = "points";
  for (const one of Object.values(chosen)) one.addEventListener("change", explore);
  explore();

  // --- light, dark, paper -----------------------------------------------------------------------
  const repaint = (now) => {
    if (now === dark) return;
    dark = now;
    for (const place of find(".chart[data-figure]")) Plotly.relayout(place, { template: template() });
    explore();
  };
  night.addEventListener("change", () => repaint(night.matches));
  addEventListener("beforeprint", () => repaint(false));
  addEventListener("afterprint", () => repaint(night.matches));
  document.documentElement.dataset.ready = "yes";
})().catch((error) => {
  const place = document.getElementById("trouble");
  place.textContent = `The charts could not be drawn (${error.message}); the figures stand as pictures in the folder “figures” beside this page.`;
  place.hidden = false;
  console.error(error);
});
