/* What must happen in the browser: clicks anywhere in the plane, keys, the player, the appearance. */
"use strict";
(function () {
  const CLICK_PIXELS = 5;
  const FRAME_MS = 70;
  const PLAY = "▶ Play";
  const STEP = 0.1;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

  const plot = (id) => document.querySelector(`#${id} .js-plotly-plot`);
  const send = (id, props) => window.dash_clientside.set_props(id, props);
  const nothing = () => window.dash_clientside.no_update;

  /* ---- the connection: the secret of this page (see security.py), and what the server cannot tell ---- */

  const LOST = "The viewer has ended. Start it again (solvar view) and open the address that it prints.";
  const STRANGER = "Open the address that solvar view printed: this page was opened without it.";
  const REFUSED = {
    403: "This page is let in no more: open the address that solvar view printed last.",
    413: "That is more than one request may hold: draw a simpler outline.",
  };
  const SECRET = window.sessionStorage.getItem("solvar-page");
  const ask = window.fetch.bind(window);

  if (!SECRET) {
    document.body.textContent = STRANGER;
    window.stop();
  }

  function complain(text) {
    send("message", { children: text, className: "bad" });
  }

  window.fetch = async (...given) => {
    const request = new Request(...given);
    if (new URL(request.url).origin === window.location.origin) {
      request.headers.set("X-Solvar-Page", SECRET);
    }
    let answer;
    try {
      answer = await ask(request);
    } catch (error) {
      complain(LOST);
      throw error;
    }
    if (answer.status in REFUSED) complain(REFUSED[answer.status]);
    return answer;
  };

  function entitle(run) {
    document.title = `${run} · solvar`;
  }

  /* ---- the appearance ---- */

  function remembered() {
    try {
      return window.localStorage.getItem("solvar-appearance");
    } catch {
      return null;
    }
  }

  function system() {
    return window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }

  function wear(name) {
    document.documentElement.dataset.appearance = name;
    const button = document.getElementById("appearance-button");
    if (button) button.textContent = name === "dark" ? "Light" : "Dark";
    return name;
  }

  wear(remembered() || system());

  function appearance(clicks, now) {
    if (!clicks) return wear(remembered() || system());
    const next = now === "dark" ? "light" : "dark";
    try {
      window.localStorage.setItem("solvar-appearance", next);
    } catch {
      /* a browser that keeps nothing: the choice lasts until the page is closed */
    }
    return wear(next);
  }

  function painted(figure, before) {
    if (before || !figure) return nothing();
    return new Promise((resolve) => {
      const look = () => {
        if (document.querySelector("#latents .nsewdrag")) setTimeout(() => resolve(true), 0);
        else requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    });
  }

  /* ---- the plane: plotly tells of clicks on points only, but every place has a molecule ---- */

  let pressed = null;

  document.addEventListener(
    "pointerdown",
    (event) => {
      const area = event.target.closest && event.target.closest("#latents .nsewdrag");
      pressed = area && event.button === 0 ? { x: event.clientX, y: event.clientY, area } : null;
    },
    true
  );

  // a lasso that ends where it began is no click
  document.addEventListener(
    "pointermove",
    (event) => {
      if (!pressed) return;
      const { x, y } = pressed;
      if (Math.hypot(event.clientX - x, event.clientY - y) > CLICK_PIXELS) pressed = null;
    },
    true
  );

  document.addEventListener(
    "pointerup",
    (event) => {
      if (!pressed) return;
      const { x, y, area } = pressed;
      pressed = null;
      const layout = plot("latents")._fullLayout;
      const box = area.getBoundingClientRect();
      send("clicked", {
        data: {
          x: layout.xaxis.p2d(x - box.left),
          y: layout.yaxis.p2d(y - box.top),
          at: Date.now(),
        },
      });
    },
    true
  );

  document.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow || event.target.id !== "plane") return;
    event.preventDefault();
    const step = event.shiftKey ? 5 * STEP : STEP;
    send("clicked", {
      data: { x: arrow[0] * step, y: arrow[1] * step, by_key: true, at: Date.now() },
    });
  });

  function drawn(selected) {
    if (!selected) return nothing();
    if (selected.lassoPoints) {
      return { kind: "lasso", x: selected.lassoPoints.x, y: selected.lassoPoints.y };
    }
    if (selected.range) return { kind: "box", x: selected.range.x, y: selected.range.y };
    return nothing();
  }

  function shownWindow(moved, x, y) {
    const triggered = window.dash_clientside.callback_context.triggered.map((t) => t.prop_id);
    if (!triggered.some((name) => name.startsWith("latents"))) return null;
    const names = Object.keys(moved || {});
    if (!names.some((name) => /^[xy]axis/.test(name))) return nothing();
    const layout = plot("latents")._fullLayout;
    return { axes: [x, y], x: [...layout.xaxis.range], y: [...layout.yaxis.range] };
  }

  /* ---- the player ---- */

  const KINDS = { f4: Float32Array, u2: Uint16Array, u4: Uint32Array };
  let player = null;

  function unpacked({ dtype, bdata }) {
    const bytes = Uint8Array.from(atob(bdata), (letter) => letter.charCodeAt(0));
    return new KINDS[dtype](bytes.buffer);
  }

  function decoded(frames) {
    return frames.surfaces.map((surfaces) =>
      surfaces.map((surface) =>
        Object.fromEntries(Object.entries(surface).map(([name, a]) => [name, unpacked(a)]))
      )
    );
  }

  function show(surfaces) {
    const update = {};
    for (const name of ["x", "y", "z", "i", "j", "k", "intensity"]) {
      update[name] = surfaces.map((surface) => surface[name]);
    }
    window.Plotly.restyle(plot("molecule"), update, surfaces.map((_, number) => number));
  }

  function follow(point, x, y) {
    if (!x.startsWith("z") || !y.startsWith("z")) return;
    const at = [x, y].map((key) => point[Number(key.slice(1)) - 1]);
    const disc = plot("latents").layout.shapes.length - 1;
    window.Plotly.relayout(plot("latents"), {
      [`shapes[${disc}].xanchor`]: at[0],
      [`shapes[${disc}].yanchor`]: at[1],
    });
  }

  function stop() {
    if (!player) return;
    const point = player.points[player.frame];
    player = null;
    point.forEach((value, index) => {
      send({ type: "component", index }, { value: Math.round(100 * value) / 100 });
    });
  }

  // pressed: stop, or begin with the frames that are here, or ask the server for others
  function press(clicks, frames, path, level, looks, outer, x, y) {
    if (player) {
      stop();
      return [PLAY, nothing()];
    }
    const asked = [path, level, looks, outer];
    if (frames && JSON.stringify(frames.asked) === JSON.stringify(asked)) {
      return [play(frames, x, y), nothing()];
    }
    return [nothing(), { asked, at: clicks }];
  }

  function play(frames, x, y) {
    if (!frames) return PLAY;
    const surfaces = decoded(frames);
    const mine = { points: frames.points, frame: 0, step: 1 };
    player = mine;
    // the next frame waits until this one is drawn: a slow machine plays slowly, but still answers
    const advance = () => {
      if (player !== mine) return;
      show(surfaces[mine.frame]);
      follow(mine.points[mine.frame], x, y);
      const next = mine.frame + mine.step;
      if (next < 0 || next >= surfaces.length) mine.step = -mine.step;
      mine.frame += mine.step;
      requestAnimationFrame(() => setTimeout(advance, FRAME_MS));
    };
    advance();
    return "❚❚ Pause";
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    solvar: { entitle, appearance, painted, drawn, shownWindow, press, play },
  });
})();
