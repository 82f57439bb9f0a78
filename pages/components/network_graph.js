// Shows the drawing that fits the width, and sends the layer of a tile that is clicked, or entered by the keyboard.
export default function ({ parentElement, data, setTriggerValue }) {
  const place = parentElement.querySelector(".network-graph");
  place.setAttribute("aria-label", data.alt);
  place.send = (tile) => tile && setTriggerValue("layer", tile.dataset.layer);

  const show = () => {
    const width = parentElement.clientWidth;
    const fitting = data.drawings.find((each) => each.width <= width) ?? data.drawings.at(-1);
    if (place.shown === fitting.svg) return;
    const focused = place.contains(document.activeElement) ? document.activeElement.dataset?.layer : null;
    place.shown = fitting.svg;
    place.innerHTML = fitting.svg;
    if (focused) place.querySelector(`[data-layer="${CSS.escape(focused)}"]`)?.focus();
  };
  place.show = show;
  show();
  if (place.bound) return;
  place.bound = true;
  place.addEventListener("click", (event) => place.send(event.target.closest(".tile")));
  place.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    place.send(event.target.closest(".tile"));
  });
  new ResizeObserver(() => place.isConnected && place.show()).observe(parentElement);
}
