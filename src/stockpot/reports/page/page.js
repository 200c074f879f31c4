"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const main = document.getElementById("main");
  const plots = [];
  let marked = null;

  // Text goes in as text: a run called <script> stays a name.
  const element = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  const section = (id, title, ...children) => {
    document.getElementById("contents").append(element("a", { href: `#${id}` }, title));
    const node = element("section", { id, "aria-labelledby": `${id}-title` }, element("h2", { id: `${id}-title` }, title), ...children);
    main.append(node);
    return node;
  };
  const say = (text) => { document.getElementById("live").textContent = text; };

  // --- tables ---------------------------------------------------------------------------------------------------

  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, at) => {
      const name = head.textContent;
      head.textContent = "";
      head.append(element("button", { type: "button", onclick: () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => {
          const text = row.cells[at].dataset.value ?? row.cells[at].textContent;
          const number = Number.parseFloat(text.replace(/[×,]/g, ""));
          return Number.isNaN(number) ? text : number;
        };
        const order = (a, b) => {
          const [x, y] = [key(a), key(b)];
          if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1; // what has no number comes last
          const found = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
          return down ? -found : found;
        };
        table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
        say(`Sorted by ${name}, ${down ? "descending" : "ascending"}.`);
      } }, name));
    });
    return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": table.caption ? table.caption.textContent : "table" }, table);
  };
  const tableOf = (titles, rows) => element("table", {},
    element("thead", {}, element("tr", {}, ...titles.map((title) => element("th", { scope: "col" }, title)))),
    element("tbody", {}, ...rows));

  const results = () => {
    if (!page.table) return;
    const { columns, rows, higher } = page.table;
    const best = columns.map((_, at) => {
      const shown = rows.filter((row) => row.method !== "initialisation").map((row) => row.cells[at]).filter((cell) => cell.value !== null);
      const values = shown.map((cell) => Number.parseFloat(cell.text));
      return values.length ? String((higher ? Math.max : Math.min)(...values)) : null;
    });
    const body = rows.map((row) => element("tr", {},
      element("td", {}, row.title),
      ...row.cells.map((cell, at) => element("td", {
        "data-value": cell.value, class: cell.text && String(Number.parseFloat(cell.text)) === best[at] ? "best" : null,
      }, cell.text, " ", element("small", {}, cell.error))),
      element("td", {}, row.ingredients), element("td", {}, row.cost)));
    const table = tableOf(["method", ...columns.map((column) => column.title), "ingredients", "cost"], body);
    const copy = element("button", { type: "button", id: "copy", onclick: async () => {
      try { await navigator.clipboard.writeText(page.markdown); say("The table was copied as Markdown."); copy.textContent = "Copied"; }
      catch { shown.hidden = false; shown.focus(); shown.select(); say("Copying is not allowed here: the text is selected."); }
    } }, "Copy as Markdown");
    const shown = element("textarea", { id: "markdown", rows: "8", cols: "60", hidden: "", "aria-label": "The table as Markdown" });
    shown.value = page.markdown;
    section("table", "Methods", element("div", { class: "tools" }, copy, element("span", { class: "quiet" }, `${page.table.metric}, ${higher ? "higher" : "lower"} is better; ± one standard error; coloured: best of its column. Click a title to sort.`)),
      sortable(table), shown, ...page.notes.map((note) => element("p", { class: "quiet" }, note)));
  };

  const progress = () => {
    if (!page.progress.length) return;
    section("progress", "Under way", element("ol", { class: "progress", reversed: "" }, ...page.progress.map((line) => element("li", {}, line))));
  };

  const comparisons = () => {
    if (!page.comparisons || !page.comparisons.length) return;
    const rows = page.comparisons.map((c) => element("tr", {}, element("td", {}, `${c.method} − ${c.against}`), element("td", {}, c.split),
      element("td", {}, c.difference, " ", element("small", {}, c.error)), element("td", {}, c.p), element("td", {}, c.changed)));
    section("paired", "Paired comparisons", element("p", { class: "quiet" }, "On the same examples; p is two-sided; changed: examples that count differently in the two."),
      sortable(tableOf(["difference", "split", "value", "p", "changed"], rows)));
  };

  // --- figures --------------------------------------------------------------------------------------------------

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    return { ink: of("--ink"), line: of("--line"), mark: of("--mark"), panel: of("--panel") };
  };
  // The darkest colours of marks, and what stands for them where the page is dark.
  const inks = () => [["#000000", colours().ink],
    ...(document.documentElement.dataset.theme === "dark" ? [["#6600CC", "#A070FF"], ["#773311", "#C4845C"], ["#554444", "#A39393"]] : [])];
  // The legend stands under the axis in rows of its own, and the picture grows with them: nothing is covered.
  const legendRows = (figure, node) => {
    const shown = figure.data.filter((trace) => trace.name && trace.showlegend !== false && ["scatter", "bar"].includes(trace.type)).length;
    return shown < 2 ? 0 : Math.ceil(shown / (node.clientWidth < 440 ? 1 : 2));
  };
  const layoutOf = (figure, node) => {
    const rows = legendRows(figure, node);
    node.style.height = `${(figure.layout.height ?? 330) + 19 * rows}px`;
    const { ink, line, panel } = colours();
    const axis = (own) => ({ gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, ...own });
    return { margin: { l: 60, r: 15, t: 10, b: 55 + 19 * rows }, paper_bgcolor: panel, plot_bgcolor: panel, font: { color: ink, size: 12 },
      hovermode: "closest", ...figure.layout, height: undefined,
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", font: { size: 11 } },
      xaxis: axis(figure.layout.xaxis), yaxis: axis(figure.layout.yaxis) };
  };
  // The marked run stands out wherever it is drawn; where nobody is marked all look as they came.
  const dressed = (figure) => JSON.parse(inks().reduce((text, [dark, light]) => text.replaceAll(`"${dark}"`, `"${light}"`), JSON.stringify(figure.data))).map((trace) => {
    if (!trace.customdata || trace.type !== "scatter") return trace;
    const { mark } = colours();
    const pick = (value, own) => trace.customdata.map((name) => (name !== null && name === marked ? value : own));
    const bars = Object.fromEntries(["error_x", "error_y"].filter((key) => trace[key]).map((key) => [key, { ...trace[key], color: trace.marker.color }]));
    return { ...trace, ...bars, marker: { ...trace.marker, color: pick(mark, trace.marker.color), size: pick(15, trace.marker.size),
      line: { width: pick(2, 0), color: colours().ink } } };
  });
  const draw = ({ figure, node }) => Plotly.react(node, dressed(figure), layoutOf(figure, node), { responsive: true, displaylogo: false, displayModeBar: "hover" });
  const mark = (name) => {
    marked = marked === name ? null : name;
    document.querySelectorAll("tr[data-run]").forEach((row) => {
      const is = row.dataset.run === marked;
      row.classList.toggle("marked", is);
      row.setAttribute("aria-selected", String(is));
    });
    document.documentElement.dataset.marked = marked ?? "";
    plots.filter((plot) => plot.isDrawn).forEach(draw);
    say(marked === null ? "No run is marked." : `${marked} is marked in every figure.`);
  };
  const figures = () => {
    if (!page.figures.length) return;
    const grid = element("div", { class: "figures" });
    section("figures", "Figures", element("p", { class: "quiet" }, "Point at a mark to see the run with its settings and scores; click it to mark that run everywhere."), grid);
    const seen = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      seen.unobserve(entry.target);
      const plot = plots.find((one) => one.node === entry.target);
      plot.isDrawn = true;
      draw(plot);
      plot.node.on("plotly_click", (event) => {
        const name = event.points[0].customdata;
        if (typeof name === "string") mark(name);
      });
    }), { rootMargin: "600px" });
    page.figures.forEach((figure) => {
      const node = element("div", { class: "plot", id: `plot-${plots.length}`, role: "img", "aria-label": `${figure.title}. ${figure.caption}` });
      grid.append(element("figure", { "data-figure": figure.id }, element("figcaption", {}, element("h3", {}, figure.title), figure.caption ? element("p", {}, figure.caption) : null), node));
      plots.push({ figure, node, isDrawn: false });
      seen.observe(node);
    });
    addEventListener("beforeprint", () => plots.forEach((plot) => { plot.isDrawn = true; draw(plot); }));
  };

  // --- the rest -------------------------------------------------------------------------------------------------

  const runs = () => {
    if (!page.runs.length) return;
    const splits = [...new Set(page.runs.flatMap((run) => Object.keys(run.scores)))];
    const rows = page.runs.map((run) => element("tr", { "data-run": run.name, tabindex: "0", "aria-selected": "false",
      onclick: () => mark(run.name), onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); mark(run.name); } } },
      element("td", {}, run.name), ...splits.map((split) => element("td", {}, run.scores[split] ?? "")), element("td", { class: "text" }, run.settings)));
    section("runs", "Runs", sortable(tableOf(["run", ...splits, "settings"], rows)));
  };
  const findings = () => {
    if (page.recommendation === null) return;
    const node = section("diagnosis", "Diagnosis", element("p", { class: "result" }, page.recommendation));
    page.findings.forEach((finding) => node.append(element("div", { class: `finding ${finding.severity}` },
      element("strong", {}, `${finding.severity}: `), finding.message, element("ul", {}, ...finding.evidence.map((line) => element("li", {}, line))), element("span", {}, finding.fix))));
    if (!page.findings.length) node.append(element("p", {}, "Nothing was found."));
  };
  const provenance = () => {
    if (!page.provenance.soups.length) return;
    const node = section("provenance", "Provenance");
    page.provenance.soups.forEach((soup) => {
      const rows = soup.ingredients.map((one) => element("tr", {}, element("td", {}, one.name), element("td", { class: "text" }, one.source), element("td", { class: "text" }, element("code", {}, one.digest))));
      node.append(element("details", {}, element("summary", {}, `${soup.name}: ${soup.recipe}, ${soup.ingredients.length} ingredient${soup.ingredients.length === 1 ? "" : "s"}, stockpot ${soup.stockpot}`),
        ...soup.notes.map((note) => element("p", {}, note)), element("p", {}, element("code", {}, soup.rebuild), " ", element("code", {}, soup.verify)),
        element("div", { class: "scroll" }, tableOf(["ingredient", "source", "SHA-256"], rows))));
    });
  };
  const missing = () => {
    if (page.missing.length) section("missing", "Not shown", element("ul", { class: "missing" }, ...page.missing.map((line) => element("li", {}, line))));
  };

  const setTheme = (name) => {
    document.documentElement.dataset.theme = name;
    const button = document.getElementById("theme");
    button.textContent = name === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(name === "dark"));
    plots.filter((plot) => plot.isDrawn).forEach(draw);
  };
  const refresh = async () => {
    try {
      const answer = await fetch(page.refresh, { cache: "no-store" });
      const newer = answer.ok ? (await answer.text()).trim() : page.version;
      if (newer !== page.version) location.reload();
    } catch { /* the server is gone: what is shown stays */ }
    setTimeout(refresh, 2000);
  };

  document.getElementById("title").textContent = page.title;
  main.append(element("p", { class: "result", id: "sentence" }, page.sentence));
  progress(); results(); comparisons(); figures(); runs(); findings(); provenance(); missing();
  document.getElementById("footer").append(`Made with stockpot ${page.stockpot} from records alone. Charts: plotly.js, MIT licence.`);
  document.getElementById("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  if (page.refresh) setTimeout(refresh, 2000);
  document.documentElement.dataset.ready = "yes";
})();
