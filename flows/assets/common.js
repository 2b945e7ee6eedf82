// What all pages share: Plotly when it is needed, charts in the page's colours, marks for measuring and testing.
"use strict";

const Report = (() => {
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const charts = new Map(); // element -> function that makes traces and layout
  let library = null;

  function plotly() {
    library ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${document.documentElement.dataset.assets}plotly.min.js`;
      script.onload = () => resolve(window.Plotly);
      script.onerror = reject;
      document.head.append(script);
    });
    return library;
  }

  function layout(more) {
    const axis = { gridcolor: style("grid"), zerolinecolor: style("line"), linecolor: style("line"), automargin: true };
    const { xaxis, yaxis, ...rest } = more;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: style("ink"), size: 12 },
      margin: { l: 50, r: 15, t: 36, b: 40 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" }, hovermode: "closest",
      hoverlabel: { bgcolor: style("card"), bordercolor: style("line"), font: { color: style("ink") } },
      xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
    };
  }

  // Draw a chart, and again whenever the colours of the page change.
  async function chart(element, make) {
    const Plotly = await plotly();
    charts.set(element, make);
    const { traces, layout: own } = make(style);
    await Plotly.react(element, traces, layout(own), { responsive: true, displayModeBar: false });
    return element;
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const [element, make] of charts) chart(element, make);
  });

  const number = (value, digits = 4) => value === null || value === undefined ? "–"
    : Number.isInteger(value) ? value.toLocaleString("en") : Number(value.toPrecision(digits)).toString();

  function mark(name) {
    performance.mark(name);
    document.documentElement.dataset[name] = Math.round(performance.now());
  }

  const typing = (event) => event.target.matches("input:not([type=range]):not([type=checkbox]), select, textarea")
    || event.ctrlKey || event.altKey || event.metaKey;

  return { chart, layout, mark, number, plotly, style, typing };
})();
