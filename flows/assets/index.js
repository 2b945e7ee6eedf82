// The table of all videos: sorted, filtered, in pages, its state in the address.
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
    state.sort = Object.hasOwn(at, sort) ? sort : "";
    state.down = direction === "down";
    state.page = Math.max(0, Math.floor(Number(given.get("page") ?? 1)) - 1 || 0);
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
    window.addEventListener("hashchange", () => {
      readAddress();
      select();
      show();
      $("all").scrollIntoView(); // bars of the overview lead here
    });
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

  build();
  readAddress();
  select();
  show();
  Report.mark("table");
  requestIdleCallback(() => Report.mark("interactive")); // all is drawn, and nothing waits any more
})();
