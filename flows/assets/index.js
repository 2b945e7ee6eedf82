// The table of all videos (sorted, filtered, in pages, its state in the address) and the charts above it.
"use strict";

(() => {
  const PAGE = 100;
  const { columns, rows } = window.NVDS_TABLE;
  const at = Object.fromEntries(columns.map((name, index) => [name, index]));
  const SHOWN = [ // [column, title, figure?]
    ["thumb", "", false], ["name", "Video", false], ["status", "Status", false], ["reason", "Reason", false],
    ["frames", "Frames", true], ["scenes", "Scenes", true], ["width", "Size", true], ["initial", "OPW before", true],
    ["final", "OPW after", true], ["ratio", "Ratio", true], ["seconds", "Seconds", true],
  ];
  const $ = (id) => document.getElementById(id);
  const haystack = rows.map((row) =>
    ["id", "name", "uri", "reason", "message"].map((name) => row[at[name]] ?? "").join("\n").toLowerCase());
  const collator = new Intl.Collator("en", { numeric: true });
  const state = { q: "", status: "", reason: "", sort: "", down: false, page: 0 };
  let order = rows.map((_, index) => index);

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of ["q", "status", "reason"]) state[name] = given.get(name) ?? "";
    const [sort, direction] = (given.get("sort") ?? "").split(":");
    state.sort = sort in at ? sort : "";
    state.down = direction === "down";
    state.page = Math.max(0, Number(given.get("page") ?? 1) - 1 || 0);
    $("query").value = state.q;
    $("status").value = state.status;
    $("reason").value = state.reason;
  }

  function writeAddress() {
    const given = new URLSearchParams();
    for (const name of ["q", "status", "reason"]) if (state[name]) given.set(name, state[name]);
    if (state.sort) given.set("sort", `${state.sort}:${state.down ? "down" : "up"}`);
    if (state.page) given.set("page", state.page + 1);
    history.replaceState(null, "", `#${given}`);
  }

  function select() {
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    order = [];
    for (let i = 0; i < rows.length; i++) {
      if (state.status && rows[i][at.status] !== state.status) continue;
      if (state.reason && rows[i][at.reason] !== state.reason) continue;
      if (words.every((word) => haystack[i].includes(word))) order.push(i);
    }
    if (!state.sort) return;
    const column = at[state.sort], sign = state.down ? -1 : 1;
    order.sort((a, b) => {
      const x = rows[a][column], y = rows[b][column];
      if (x === null || y === null) return (x === null) - (y === null) || a - b; // what is missing comes last
      return sign * (typeof x === "number" ? x - y : collator.compare(x, y)) || a - b;
    });
  }

  function cell(row, [name, , figure]) {
    const element = document.createElement("td");
    const value = row[at[name]];
    if (figure) element.className = "figure";
    if (name === "thumb") {
      if (value) {
        const picture = new Image();
        Object.assign(picture, { loading: "lazy", alt: "", height: 34 });
        picture.src = `media/${encodeURIComponent(row[at.id])}/thumb.jpg`;
        element.append(picture);
      }
    } else if (name === "name") {
      const link = document.createElement("a");
      link.href = `videos/${encodeURIComponent(row[at.id])}.html`;
      link.textContent = value;
      link.title = row[at.uri];
      element.append(link);
      if (row[at.message]) {
        const why = document.createElement("span");
        why.className = "why";
        why.textContent = row[at.message];
        element.append(why);
      }
    } else if (name === "status") {
      const badge = document.createElement("span");
      badge.className = `status ${value === "done" ? "done" : "failed"}`;
      badge.textContent = value;
      element.append(badge);
    } else if (name === "width") {
      element.textContent = value === null ? "–" : `${value}×${row[at.height]}`;
    } else {
      element.textContent = figure ? Report.number(value) : value ?? "";
    }
    return element;
  }

  function show() {
    const pages = Math.max(1, Math.ceil(order.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const lines = order.slice(state.page * PAGE, (state.page + 1) * PAGE).map((index) => {
      const line = document.createElement("tr");
      line.append(...SHOWN.map((column) => cell(rows[index], column)));
      return line;
    });
    $("body").replaceChildren(...lines);
    $("count").textContent = `${order.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} videos`;
    $("pager").hidden = pages === 1;
    $("page-text").textContent = `Page ${state.page + 1} of ${pages}`;
    $("page-back").disabled = state.page === 0;
    $("page-ahead").disabled = state.page === pages - 1;
    for (const header of $("headers").children) {
      const own = header.dataset.column === state.sort;
      header.setAttribute("aria-sort", own ? (state.down ? "descending" : "ascending") : "none");
      const arrow = header.querySelector("span");
      if (arrow) arrow.textContent = own ? (state.down ? " ▼" : " ▲") : "";
    }
  }

  function update(changes, keepPage = false) {
    Object.assign(state, changes);
    if (!keepPage) state.page = 0;
    select();
    show();
    writeAddress();
  }

  function button(id, text, click) {
    const element = document.createElement("button");
    Object.assign(element, { id, textContent: text, type: "button" });
    element.addEventListener("click", click);
    return element;
  }

  function build() {
    for (const [name, title, figure] of SHOWN) {
      const header = document.createElement("th");
      header.scope = "col";
      if (figure) header.className = "figure";
      if (title) {
        header.dataset.column = name;
        const sort = button("", title, () => update({ sort: name, down: state.sort === name ? !state.down : figure }));
        sort.removeAttribute("id");
        const arrow = document.createElement("span");
        arrow.setAttribute("aria-hidden", "true");
        sort.append(arrow);
        header.append(sort);
      } else {
        const hidden = document.createElement("span");
        hidden.className = "hidden";
        header.append(hidden);
      }
      $("headers").append(header);
    }
    for (const name of ["status", "reason"]) {
      const found = [...new Set(rows.map((row) => row[at[name]]).filter(Boolean))].sort();
      $(name).append(...found.map((value) => new Option(value, value)));
      $(name).addEventListener("change", (event) => update({ [name]: event.target.value }));
    }
    const text = document.createElement("span");
    text.id = "page-text";
    const turn = (by) => () => {
      update({ page: state.page + by }, true);
      $("all").scrollIntoView();
    };
    $("pager").append(button("page-back", "Previous", turn(-1)), text, button("page-ahead", "Next", turn(1)));
    $("query").addEventListener("input", (event) => update({ q: event.target.value }));
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("filters").addEventListener("reset", () => update({ q: "", status: "", reason: "", sort: "", down: false }));
    document.addEventListener("keydown", key);
    window.addEventListener("hashchange", () => { readAddress(); select(); show(); });
  }

  function key(event) {
    if (event.key === "/" && !Report.typing(event)) {
      event.preventDefault();
      $("query").focus();
      return;
    }
    const links = [...$("body").querySelectorAll("a")];
    const here = links.indexOf(document.activeElement);
    const down = event.key === "ArrowDown", up = event.key === "ArrowUp";
    if (!links.length || !(down || up) || (here < 0 && !(down && event.target === $("query")))) return;
    event.preventDefault();
    if (up && here === 0) $("query").focus();
    else links[Math.min(links.length - 1, here + (down ? 1 : -1))].focus();
  }

  const values = (element) => JSON.parse(element.dataset.values);
  const counted = (counts) => ({ rangemode: "tozero", tickformat: ",d", dtick: Math.max(...counts) < 6 ? 1 : undefined });
  const bars = { marker: { line: { width: 0 } }, type: "bar" };

  const CHARTS = {
    failures(element) {
      const data = values(element);
      return Report.chart(element, (style) => ({
        traces: [{ ...bars, x: data.counts, y: data.reasons, orientation: "h", marker: { color: style("bad") },
          width: data.counts.length < 3 ? 0.3 : 0.7 }],
        layout: { yaxis: { autorange: "reversed", type: "category" }, xaxis: { title: { text: "videos" }, ...counted(data.counts) } },
      })).then(() => element.on("plotly_click", (event) => {
        $("reason").value = event.points[0].y;
        update({ reason: event.points[0].y });
        $("all").scrollIntoView();
      }));
    },
    opw(element) {
      const { edges, initial, final } = values(element);
      const middles = edges.slice(1).map((edge, index) => (edge + edges[index]) / 2);
      const one = (name, y, color) => ({ ...bars, name, x: middles, y, marker: { color }, opacity: 0.65, width: edges[1] });
      return Report.chart(element, (style) => ({
        traces: [one("before", initial, style("initial")), one("after", final, style("final"))],
        layout: { barmode: "overlay", bargap: 0, xaxis: { title: { text: "OPW" } },
          yaxis: { title: { text: "videos" }, ...counted([...initial, ...final]) } },
      }));
    },
    rate(element) {
      const runs = values(element);
      return Report.chart(element, (style) => ({
        traces: runs.map(({ run, minutes, rate }, index) => ({
          name: run, x: [0, ...minutes], y: [rate[0], ...rate], type: "scatter", mode: "lines",
          line: { shape: "vh", color: style(["final", "initial", "optimized", "forward", "backward"][(runs.length - 1 - index) % 5]) },
        })),
        layout: {
          showlegend: runs.length > 1, xaxis: { title: { text: "minutes since the run began" } },
          yaxis: { title: { text: "frames/s" }, rangemode: "tozero" },
        },
      }));
    },
    slowest(element) {
      const { steps, videos, links } = values(element);
      const names = videos.map(({ id }) => (id.length > 26 ? `${id.slice(0, 24)}…` : id));
      const colours = ["forward", "initial", "final", "optimized", "backward", "bad", "good", "accent"];
      return Report.chart(element, (style) => ({
        traces: steps.map((step, index) => ({
          ...bars, name: step, orientation: "h", x: videos.map((video) => video.steps[step] ?? 0), y: videos.map((_, i) => i),
          marker: { color: step === "other" ? style("line") : style(colours[index % colours.length]) },
        })),
        layout: {
          barmode: "stack", xaxis: { title: { text: "seconds" } },
          yaxis: { autorange: "reversed", tickvals: names.map((_, i) => i), ticktext: names.map(plain) },
        },
      })).then(() => element.on("plotly_click", (event) => { location.href = links[event.points[0].y]; }));
    },
  };

  // Plotly reads a few tags in its texts; ids are file-name safe, this keeps it so for whatever comes
  const plain = (text) => text.replace(/[<>&]/g, "·");

  function draw() {
    const drawn = Object.entries(CHARTS).filter(([id]) => $(id));
    Report.plotly().then(() => Promise.all(drawn.map(([id, make]) => make($(id)))))
      .then(() => requestAnimationFrame(() => setTimeout(() => Report.mark("charts"), 0)));
  }

  build();
  readAddress();
  select();
  show();
  Report.mark("table");
  // after the first picture, so that the table answers before the library of the charts is read
  requestAnimationFrame(() => setTimeout(draw, 0));
})();
