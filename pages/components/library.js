// Loads Plotly once, and asks for the page anew where it was drawn for another colour scheme: figures hold their colours.
const LOOK_MS = 300, PATIENCE_MS = 3000;

export default function ({ data, parentElement, setTriggerValue }) {
  if (!document.getElementById("plotly-library")) {
    const script = Object.assign(document.createElement("script"), { id: "plotly-library", src: data.source });
    script.onerror = () => script.remove();
    document.head.append(script);
  }
  const scheme = () => {
    const [red, green, blue] = getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor.match(/\d+/g);
    return +red + +green + +blue < 384 ? "dark" : "light";
  };
  let [before, asked] = [null, 0];
  // Colours fade into each other: the new ones are there when they stand still.
  const look = () => {
    const now = scheme();
    if (now !== data.scheme && now === before && Date.now() - asked > PATIENCE_MS) {
      asked = Date.now();
      setTriggerValue("scheme", now);
    }
    before = now;
  };
  clearInterval(parentElement.looking);
  parentElement.looking = setInterval(look, LOOK_MS);
  return () => clearInterval(parentElement.looking);
}
