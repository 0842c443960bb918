// Run in the page by tests/test_review_browser.py: controls without a name, and text too faint to read (WCAG 2.1 AA, 4.5).
() => {
  const named = (n) =>
    n.getAttribute("aria-label") ||
    document.getElementById(n.getAttribute("aria-labelledby"))?.textContent.trim() ||
    [...(n.labels ?? [])].some((label) => label.textContent.trim()) ||
    (n.localName === "button" && n.textContent.trim());
  const controls = "button, input, textarea, progress, [role=listbox], [tabindex='0'], dialog, section, aside";
  const nameless = [...document.querySelectorAll(controls)].filter((n) => n.checkVisibility() && !named(n));

  const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = parts(colour).map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (n) => {
    for (; n; n = n.parentElement) {
      const colour = getComputedStyle(n).backgroundColor;
      if ((parts(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = walker.nextNode()); ) {
    const n = text.parentElement;
    if (!text.data.trim() || !n.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(n).color), light(ground(n))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) faint.push(`${text.data.slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return [...nameless.map((n) => n.outerHTML.slice(0, 120)), ...faint];
}
