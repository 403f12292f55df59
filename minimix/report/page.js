// Shows the values under the pointer. Without it the page has all numbers in its tables.
for (const plot of document.querySelectorAll("[data-curves]")) {
  const { inset, end, name, unit, curves } = JSON.parse(plot.dataset.curves);
  const add = (parent, tag, look, words = "") => {
    const element = parent.appendChild(document.createElement(tag));
    element.className = look;
    element.textContent = words;
    return element;
  };
  const area = add(plot, "div", "area"); // covers the inside of the axes
  area.style.inset = inset.map((side) => `${side}%`).join(" ");
  const line = add(area, "i", "pointer");
  const tip = add(area, "div", "tip");

  // The index of the number nearest to x, in rising numbers.
  const nearest = (numbers, x) => {
    let low = 0, high = numbers.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (numbers[middle] < x) low = middle; else high = middle;
    }
    return x - numbers[low] < numbers[high] - x ? low : high;
  };

  area.addEventListener("pointermove", (event) => {
    const { left, width } = area.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - left) / width));
    const x = share * end;
    line.style.left = `${100 * share}%`;
    tip.replaceChildren();
    tip.style.left = share < 0.5 ? `${100 * share}%` : "auto";
    tip.style.right = share < 0.5 ? "auto" : `${100 * (1 - share)}%`;
    add(tip, "b", "", `${name} ${+x.toPrecision(3)}`);
    for (const curve of curves) {
      const i = nearest(curve.x, x);
      const step = (curve.x.at(-1) - curve.x[0]) / (curve.x.length - 1) || end / 20;
      const y = Math.abs(curve.x[i] - x) > step ? null : curve.y[i]; // it ends before x
      add(tip, "span", `key ${curve.look}`, `${curve.name} ${y === null ? "–" : y + unit}`);
    }
    area.classList.add("pointed");
  });
  area.addEventListener("pointerleave", () => area.classList.remove("pointed"));
}
