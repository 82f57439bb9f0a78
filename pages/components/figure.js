// Draws a Plotly figure in place: a new figure redraws the old one, so nothing flickers and a zoom survives.
export default function ({ parentElement, data, setTriggerValue }) {
  const plot = parentElement.querySelector(".figure");
  plot.setAttribute("aria-label", data.alt);
  plot.latest = { ...data, send: (digest) => setTriggerValue("point", digest) };

  const draw = () => {
    const { figure, config, send } = plot.latest;
    const { data: traces, layout } = JSON.parse(figure);
    plot.style.cursor = "default";
    window.Plotly.react(plot, traces, layout, config);
    if (plot.bound) return;
    plot.bound = true;
    plot.on("plotly_click", ({ points }) => {
      const digest = points[0]?.customdata?.[0];
      if (digest) plot.latest.send(digest);
    });
    new ResizeObserver(() => plot.isConnected && window.Plotly.Plots.resize(plot)).observe(parentElement);
  };

  // The library comes as an element of its own and may arrive later than the first figures.
  const wait = () => (window.Plotly ? draw() : setTimeout(wait, 20));
  wait();
}
