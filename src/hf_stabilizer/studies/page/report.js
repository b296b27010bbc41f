"use strict";
// The page is whole without this script. It names what the pointer, the finger or the focus is on,
// lights one run up in all charts, sorts tables, and saves drawings. It asks the network nothing.
(() => {
  const REACH = { mouse: 14, touch: 28 }; // CSS pixels around a mark that still mean it
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const charts = all("svg.chart");

  // --- names: a title becomes a label, else the browser would show a second tooltip of its own

  const nameMarks = (chart) => {
    const marks = [];
    for (const title of all("title", chart)) {
      const owner = title.parentNode;
      owner.setAttribute("aria-label", title.textContent);
      if (owner !== chart) {
        owner.setAttribute("role", "img");
        owner.setAttribute("tabindex", marks.length ? "-1" : "0"); // one stop of Tab per chart
        marks.push(owner);
      }
      title.remove();
    }
    chart.removeAttribute("aria-labelledby");
    if (marks.length) chart.setAttribute("role", "group");
    return marks;
  };
  const marksOf = new Map(charts.map((chart) => [chart, nameMarks(chart)]));
  for (const chart of charts) {
    const about = chart.querySelector("desc");
    if (about) chart.setAttribute("aria-describedby", about.id);
  }

  // --- the tooltip, and the run that is lit

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("aria-hidden", "true"); // the label says it already
  tip.hidden = true;
  document.body.append(tip);

  const light = (owner) => {
    for (const lit of all(".lit")) lit.classList.remove("lit");
    const keys = owner?.dataset.run?.split(" ") ?? [];
    for (const key of keys) {
      for (const same of all(`[data-run~="${CSS.escape(key)}"]`)) same.classList.add("lit");
    }
    document.body.classList.toggle("lighting", keys.length > 0);
  };

  const place = (x, y) => {
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    const above = y - tip.offsetHeight - 14;
    tip.style.left = `${Math.max(8, Math.min(x - tip.offsetWidth / 2, room))}px`;
    tip.style.top = `${above > 8 ? above : y + 18}px`;
  };

  let shown = null;
  const show = (mark, x, y) => {
    if (mark !== shown) light(mark);
    shown = mark;
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.getAttribute("aria-label");
    place(x, y);
  };

  const focused = () => document.activeElement?.closest("svg.chart [aria-label]") ?? null;
  const showFocused = () => {
    const mark = focused();
    if (!mark) return show(null);
    const box = mark.getBoundingClientRect();
    return show(mark, box.left + box.width / 2, box.top);
  };

  // --- what is near: marks are small and lines thin

  const corners = (shape) => {
    if (shape.tagName === "polyline") return [...shape.points].map(({ x, y }) => [x, y]);
    if (shape.tagName === "line") {
      return [[shape.x1.baseVal.value, shape.y1.baseVal.value], [shape.x2.baseVal.value, shape.y2.baseVal.value]];
    }
    const box = shape.getBBox();
    return [[box.x + box.width / 2, box.y + box.height / 2]];
  };
  const known = new WeakMap();
  const cornersOf = (mark) => {
    if (!known.has(mark)) {
      const shapes = mark.childElementCount ? all("polyline, line, circle, path, polygon, rect", mark) : [mark];
      known.set(mark, shapes.map(corners));
    }
    return known.get(mark);
  };
  const toSegment = (x, y, [ax, ay], [bx, by]) => {
    const length = (bx - ax) ** 2 + (by - ay) ** 2;
    const t = length && Math.max(0, Math.min(1, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length));
    return Math.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay));
  };
  const distance = (mark, x, y) =>
    Math.min(...cornersOf(mark).flatMap((line) => line.map((corner, i) => toSegment(x, y, line[Math.max(0, i - 1)], corner))));

  const nearest = (chart, event) => {
    const matrix = chart.getScreenCTM();
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    let best = null;
    let reach = (REACH[event.pointerType] ?? REACH.mouse) / matrix.a;
    for (const mark of marksOf.get(chart)) {
      const away = mark.dataset.run ? distance(mark, x, y) : Infinity;
      if (away < reach) [best, reach] = [mark, away];
    }
    return best;
  };
  const meant = (chart, event) => {
    const direct = event.target.closest("[aria-label]");
    if (direct?.dataset.run) return direct;
    return nearest(chart, event) ?? (direct === chart ? null : direct);
  };

  // --- pointer, finger, keys

  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  const onKey = (event, marks) => {
    const at = marks.indexOf(document.activeElement);
    if (event.key === "Escape") return document.activeElement.blur();
    let next = at + (step[event.key] ?? 0);
    if (event.key === "Home") next = 0;
    if (event.key === "End") next = marks.length - 1;
    if (at < 0 || next === at || !marks[next]) return undefined;
    event.preventDefault();
    return marks[next].focus();
  };
  for (const [chart, marks] of marksOf) {
    chart.addEventListener("pointermove", (event) => {
      if (event.pointerType === "touch") return; // a finger that scrolls means nothing
      const mark = meant(chart, event);
      if (mark) show(mark, event.clientX, event.clientY);
      else showFocused();
    });
    chart.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch") showFocused();
    });
    chart.addEventListener("click", (event) => {
      const mark = meant(chart, event);
      if (!mark) return focused()?.blur();
      mark.focus({ preventScroll: true });
      return show(mark, event.clientX, event.clientY);
    });
    chart.addEventListener("focusin", (event) => {
      for (const mark of marks) mark.setAttribute("tabindex", mark === event.target ? "0" : "-1");
      showFocused();
    });
    chart.addEventListener("focusout", () => show(null));
    chart.addEventListener("keydown", (event) => onKey(event, marks));
  }
  addEventListener("scroll", showFocused, { passive: true });
  for (const row of all("tr[data-run]")) {
    row.addEventListener("pointerenter", () => light(row));
    row.addEventListener("pointerleave", () => light(shown));
  }

  // --- tables

  const collator = new Intl.Collator("en", { numeric: true });
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim().replace("\u2212", "-");
    if (text === "" || text === "\u2013") return null;
    return Number.isNaN(Number(text)) ? text : Number(text);
  };
  const order = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return collator.compare(a, b);
  };
  const sortBy = (table, column) => {
    const heads = [...table.tHead.rows[0].cells];
    const falls = heads[column].getAttribute("aria-sort") === "ascending";
    const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what is missing is last
      return falls ? order(b, a) : order(a, b);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", falls ? "descending" : "ascending");
  };
  for (const table of all("table.sortable")) {
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sortBy(table, column));
      head.append(button);
    }
  }

  // --- drawings as files that look the same outside the page, always on light paper

  const INHERITED = [
    "fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin",
    "stroke-opacity", "paint-order", "font-family", "font-size", "font-style", "font-weight", "text-anchor",
  ];

  const writeStyle = (element, copy, isRoot) => {
    const style = getComputedStyle(element);
    const above = isRoot ? null : getComputedStyle(element.parentNode);
    for (const name of INHERITED) {
      const value = style.getPropertyValue(name);
      if (value !== above?.getPropertyValue(name)) copy.setAttribute(name, value);
    }
    if (!isRoot && style.opacity !== "1") copy.setAttribute("opacity", style.opacity);
    if (!isRoot && style.display === "none") copy.setAttribute("display", "none");
    if (element.hasAttribute("aria-label")) {
      const title = document.createElementNS(element.namespaceURI, "title");
      title.textContent = element.getAttribute("aria-label");
      copy.prepend(title);
    }
    for (const name of ["class", "style", "tabindex", "role", "aria-label", "data-run"]) copy.removeAttribute(name);
  };
  const standAlone = (chart) => {
    const copy = chart.cloneNode(true);
    const copies = [copy, ...all("*", copy)];
    const root = document.documentElement;
    light(null);
    root.classList.add("on-paper");
    for (const [i, element] of [chart, ...all("*", chart)].entries()) {
      if (element.tagName !== "desc") writeStyle(element, copies[i], element === chart);
    }
    const { width, height } = chart.viewBox.baseVal;
    const paper = document.createElementNS(chart.namespaceURI, "rect");
    const about = { width, height, fill: getComputedStyle(document.body).backgroundColor, stroke: "none" };
    for (const [name, value] of Object.entries(about)) paper.setAttribute(name, value);
    root.classList.remove("on-paper");
    copy.insertBefore(paper, copy.querySelector(":scope > :not(title, desc)"));
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    return new XMLSerializer().serializeToString(copy);
  };
  const save = (text, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const stem = document.querySelector("main").dataset.stem;
  for (const figure of all("figure")) {
    for (const chart of all("svg.chart", figure)) {
      let take = figure.querySelector(".take");
      if (!take) {
        take = document.createElement("p");
        take.className = "take";
        figure.append(take);
      }
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "SVG";
      button.setAttribute("aria-label", `SVG: ${chart.getAttribute("aria-label")}`);
      button.addEventListener("click", () => save(standAlone(chart), `${stem}-${chart.dataset.name}.svg`));
      take.prepend(button);
    }
  }
})();
