// Step through the slides in `root`: arrows, space, clicks and swipes; send("leave") on Escape, send("play") at the end.
function showStage(root, markup, send) {
  const at = root.stage?.at ?? 0;
  root.stage ??= listen(root);
  Object.assign(root.stage, { send, at });
  if (root.stage.markup !== markup) {
    // New figures come in while a slide is shown: it stays, and only what has changed moves again.
    root.stage.markup = markup;
    root.innerHTML = markup;
    root.stage.show(at);
  }
}

function listen(root) {
  const stage = { at: 0 };
  const slides = () => [...root.querySelectorAll(".ps-slide")], steps = () => [...root.querySelectorAll(".ps-step")];
  stage.show = (at) => {
    stage.at = Math.max(0, Math.min(slides().length - 1, at));
    for (const [place, slide] of slides().entries()) slide.classList.toggle("ps-on", place === stage.at);
    for (const [place, step] of steps().entries()) {
      step.classList.toggle("ps-on", place === stage.at);
      if (place === stage.at) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    }
    const last = stage.at === slides().length - 1, next = root.querySelector(".ps-next");
    next.firstChild.textContent = last ? "Try it yourself " : "Next ";
  };
  const move = (by) => (stage.at + by >= slides().length ? stage.send("play") : stage.show(stage.at + by));
  const keys = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, Enter: 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 };
  const onkey = (event) => {
    if (!root.isConnected) {
      document.removeEventListener("keydown", onkey, true);
      return;
    }
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const onButton = event.target.closest?.(".ps button") && (event.key === " " || event.key === "Enter");
    if (onButton) return;
    if (event.key === "Escape") stage.send("leave");
    else if (event.key === "Home") stage.show(0);
    else if (event.key === "End") stage.show(slides().length - 1);
    else if (event.key in keys) move(keys[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  document.addEventListener("keydown", onkey, true);
  root.addEventListener("click", (event) => {
    const step = event.target.closest(".ps-step");
    if (event.target.closest(".ps-leave")) stage.send("leave");
    else if (step) stage.show(steps().indexOf(step));
    else move(1);
  });
  let from = null;
  root.addEventListener("touchstart", (event) => (from = event.changedTouches[0].clientX), { passive: true });
  root.addEventListener("touchend", (event) => {
    const by = from === null ? 0 : event.changedTouches[0].clientX - from;
    from = null;
    if (Math.abs(by) < 50) return;
    event.preventDefault();
    move(by < 0 ? 1 : -1);
  });
  root.focus({ preventScroll: true });
  return stage;
}
