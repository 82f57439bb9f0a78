// Shows the drawing that fits the width, and sends the layer of a tile that is clicked, or entered by the keyboard.
// The layer whose tile has the focus, which a drawing in its place gets: the element itself may be another one then.
let held = null;

export default function ({ parentElement, data, setTriggerValue }) {
  const place = parentElement.querySelector(".network-graph");
  place.setAttribute("aria-label", data.alt);
  place.send = (tile) => tile && setTriggerValue("layer", tile.dataset.layer);

  const show = () => {
    const width = parentElement.clientWidth;
    const fitting = data.drawings.find((each) => each.width <= width) ?? data.drawings.at(-1);
    if (place.shown === fitting.svg) return;
    place.shown = fitting.svg;
    place.innerHTML = fitting.svg;
    if (held && document.activeElement === document.body)
      place.querySelector(`[data-layer="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
  };
  place.show = show;
  show();
  if (place.bound) return;
  place.bound = true;
  place.addEventListener("focusin", (event) => (held = event.target.closest(".tile")?.dataset.layer ?? null));
  place.addEventListener("focusout", (event) => event.relatedTarget && (held = null));
  place.addEventListener("click", (event) => place.send(event.target.closest(".tile")));
  place.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    place.send(event.target.closest(".tile"));
  });
  new ResizeObserver(() => place.isConnected && place.show()).observe(parentElement);
}
