// The page of one video: every panel is a part of one mp4, so they cannot run apart; slices and curves seek it.
"use strict";

(() => {
  const data = window.NVDS_VIDEO;
  const { fps, frames, cuts, panels, perRow, size: [width, height] } = data;
  const $ = (id) => document.getElementById(id);
  const video = $("video");
  const canvases = [...document.querySelectorAll("canvas[data-panel]")];
  const last = frames - 1;
  const CURSOR_MS = 200;
  const starts = [0, ...cuts];
  let current = 0;

  const colour = (name) => Report.style(name === data.result ? "final" : name);
  const title = (name) => panels.find((panel) => panel.name === name)?.title ?? `stabilized, ${name}`;
  const seconds = (frame) => data.time?.[frame] ?? frame / fps;
  const sceneOf = (frame) => cuts.filter((cut) => cut <= frame).length;

  function paint() {
    canvases.forEach((canvas, index) => {
      const x = (index % perRow) * width, y = Math.floor(index / perRow) * height;
      canvas.getContext("2d").drawImage(video, x, y, width, height, 0, 0, width, height);
    });
  }

  function tell(frame) {
    current = Math.max(0, Math.min(last, frame));
    const opw = data.opw[data.result]?.[current];
    const score = opw === null || opw === undefined ? "" : ` · OPW ${Report.number(opw, 3)}`;
    $("where").textContent = `frame ${current} of ${last} · ${seconds(current).toFixed(2)} s${score}`;
    $("seek").value = current;
    $("seek").setAttribute("aria-valuetext", $("where").textContent);
    document.documentElement.dataset.frame = current;
    for (const cursor of document.querySelectorAll(".slice b")) cursor.style.left = `${(100 * (current + 0.5)) / frames}%`;
    moveCursors();
  }

  // The middle of a frame's time: rounding must not lead to its neighbour.
  function seek(frame) {
    const wanted = Math.max(0, Math.min(last, frame));
    video.currentTime = (wanted + 0.5) / fps;
    tell(wanted);
  }

  function step(by) {
    video.pause();
    seek(current + by);
  }

  function jump(by) {
    const scene = sceneOf(current);
    const next = by > 0 ? starts[scene + 1] : current > starts[scene] ? starts[scene] : starts[scene - 1];
    if (next !== undefined) seek(next);
  }

  function onFrame(now, { mediaTime }) {
    const frame = Math.round(mediaTime * fps);
    paint();
    // while a seek is under way the picture of an earlier one may still arrive
    if (!video.seeking) {
      const end = (starts[sceneOf(current) + 1] ?? frames) - 1;
      if ($("loop").checked && !video.paused && frame > end) seek(starts[sceneOf(current)]);
      else tell(frame);
    }
    video.requestVideoFrameCallback(onFrame);
  }

  function watch() {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(onFrame);
    else setInterval(() => { if (!video.paused) onFrame(0, { mediaTime: video.currentTime - 0.5 / fps }); }, 500 / fps);
    for (const event of ["seeked", "loadeddata"]) video.addEventListener(event, paint);
    video.addEventListener("ended", () => {
      if ($("loop").checked) { seek(starts[sceneOf(last)]); video.play(); }
    });
    const button = () => {
      $("play").textContent = video.paused ? "▶" : "⏸";
      $("play").setAttribute("aria-label", video.paused ? "Play" : "Pause");
    };
    for (const event of ["play", "pause", "ended"]) video.addEventListener(event, button);
    if (video.readyState >= 2) paint();
  }

  function toggle() {
    if (!video.paused) return video.pause();
    if (current === last) seek(0);
    return video.play();
  }

  function key(event) {
    if (Report.typing(event)) return;
    const second = Math.max(1, Math.round(fps));
    const actions = {
      ArrowLeft: () => step(event.shiftKey ? -second : -1), ArrowRight: () => step(event.shiftKey ? second : 1),
      n: () => jump(1), p: () => jump(-1),
    };
    if (!event.target.matches("button, summary, a, [type=checkbox]")) actions[" "] = toggle; // these have a use for it
    if (event.target === $("seek")) Object.assign(actions, { Home: () => seek(0), End: () => seek(last) });
    const action = actions[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  }

  function controls() {
    video.classList.add("behind");
    video.controls = false;
    video.tabIndex = -1;
    video.setAttribute("aria-hidden", "true");
    for (const canvas of canvases) {
      Object.assign(canvas, { width, height });
      canvas.addEventListener("click", toggle);
    }
    $("panels").hidden = $("controls").hidden = false;
    $("seek").max = last;
    $("play").addEventListener("click", toggle);
    $("back").addEventListener("click", () => step(-1));
    $("ahead").addEventListener("click", () => step(1));
    $("seek").addEventListener("input", () => seek(Number($("seek").value)));
    $("speed").addEventListener("change", (event) => { video.playbackRate = Number(event.target.value); });
    for (const cut of cuts) {
      const tick = document.createElement("i");
      tick.style.left = `${(100 * cut) / Math.max(1, last)}%`;
      $("ticks").append(tick);
    }
    document.addEventListener("keydown", key);
  }

  // The frames with the largest OPW of the result, no two of one burst.
  function worst() {
    const values = (data.opw[data.result] ?? []).map((value, frame) => [value ?? -1, frame]).filter(([value]) => value > 0);
    values.sort((a, b) => b[0] - a[0]);
    const picked = [];
    for (const [value, frame] of values) {
      if (picked.length < 5 && picked.every((other) => Math.abs(other[1] - frame) > 2)) picked.push([value, frame]);
    }
    if (!picked.length) return;
    const label = document.createElement("span");
    label.textContent = "Flickers most at:";
    const buttons = picked.map(([value, frame]) => {
      const button = document.createElement("button");
      button.textContent = `frame ${frame} (${Report.number(value, 3)})`;
      button.addEventListener("click", () => { video.pause(); seek(frame); });
      return button;
    });
    $("worst").append(label, ...buttons);
    $("worst").hidden = false;
  }

  function slices() {
    for (const slice of document.querySelectorAll("[data-slice]")) {
      for (const cut of cuts) {
        const line = document.createElement("i");
        line.style.left = `${(100 * cut) / frames}%`;
        slice.append(line);
      }
      slice.append(document.createElement("b"));
      slice.addEventListener("click", (event) => {
        const box = slice.getBoundingClientRect();
        seek(Math.floor(((event.clientX - box.left) / box.width) * frames));
      });
    }
  }

  const line = (x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper" });
  const cutLines = () => cuts.map((cut) => ({ ...line(cut - 0.5), line: { dash: "dash", width: 1, color: Report.style("soft") } }));
  const drawn = [];
  let waiting = false;

  function shapes() {
    return [...cutLines(), { ...line(current), line: { width: 1.5, color: Report.style("ink") } }];
  }

  // Plotly needs some milliseconds for it, so while the video plays the lines follow a few times per second only.
  function moveCursors() {
    if (waiting || !drawn.length) return;
    waiting = true;
    const soon = video.paused ? requestAnimationFrame : (move) => setTimeout(move, CURSOR_MS);
    soon(() => {
      waiting = false;
      for (const element of drawn) window.Plotly.relayout(element, { shapes: shapes() });
    });
  }

  // One value more before each cut, so that no line leads across it.
  const inScenes = (values, between) => values.flatMap((value, frame) => (cuts.includes(frame) ? [between(frame), value] : [value]));

  function curve(element, text, series, axis) {
    element.setAttribute("aria-label", text);
    const x = inScenes([...Array(frames).keys()], (frame) => frame - 0.5);
    return Report.chart(element, () => ({
      traces: series.map(({ name, y, dash, hidden }) => ({
        name: `${title(name)}${dash ? ", spread" : ""}`, x, y: inScenes(y, () => null), type: "scatter", mode: "lines", connectgaps: false,
        line: { color: colour(name), width: 1.5, dash: dash ? "dot" : "solid" }, visible: hidden ? "legendonly" : true,
      })),
      layout: {
        hovermode: "x unified", shapes: shapes(), showlegend: true, xaxis: { title: { text: "frame" }, range: [-0.5, last + 0.5] },
        yaxis: { title: { text: axis }, rangemode: axis === "OPW" ? "tozero" : "normal" },
      },
    })).then(() => {
      drawn.push(element);
      element.on("plotly_click", (event) => seek(Math.ceil(event.points[0].x)));
    });
  }

  function extreme(name) {
    const values = data.opw[name].map((value, frame) => [value ?? -1, frame]);
    const [value, frame] = values.reduce((a, b) => (b[0] > a[0] ? b : a));
    return value < 0 ? `${title(name)}: none` : `${title(name)}: largest ${Report.number(value, 3)} at frame ${frame}`;
  }

  async function curves() {
    await Report.plotly();
    const shown = panels.map(({ name }) => name).filter((name) => name !== "rgb");
    const jobs = [];
    if ($("opw")) {
      const names = Object.keys(data.opw);
      const series = names.map((name) => ({ name, y: data.opw[name], hidden: !shown.includes(name) }));
      jobs.push(curve($("opw"), `OPW per frame. ${names.map(extreme).join("; ")}`, series, "OPW"));
    }
    const series = shown.flatMap((name) => [{ name, y: data.level[name] }, { name, y: data.spread[name], dash: true }]);
    jobs.push(curve($("drift"), `Level and spread per frame of ${shown.map(title).join(", ")}`, series, "share of the range"));
    await Promise.all(jobs);
    Report.mark("charts");
  }

  controls();
  slices();
  worst();
  watch();
  tell(0);
  Report.mark("player");
  requestAnimationFrame(() => setTimeout(curves, 0));
})();
