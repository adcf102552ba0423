// Whether the UI's theme is dark, read off the colour of its text: which class or variable says so differs between frontends.

/** Of any CSS colour, 0 to 1. */
function lightness(colour: string): number {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d");
  if (context === null) return 1;
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const [red = 0, green = 0, blue = 0] = context.getImageData(0, 0, 1, 1).data;
  return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255;
}

function textColour(place: Element): string {
  const probe = document.createElement("i");
  probe.style.color = "var(--fg-color, #ddd)";
  place.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/** What stands in `element` has the theme's scheme, also when another theme is chosen; call the answer to stop. */
export function followTheme(element: HTMLElement): () => void {
  let seen = "";
  const look = () => {
    const colour = textColour(document.body);
    if (colour === seen) return;
    seen = colour;
    element.style.colorScheme = lightness(colour) > 0.5 ? "dark" : "light";
  };
  look();
  const watch = new MutationObserver(look);
  for (const place of [document.documentElement, document.body])
    watch.observe(place, { attributes: true, attributeFilter: ["class", "style"] });
  return () => watch.disconnect();
}
