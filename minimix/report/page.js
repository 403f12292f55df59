// Values under the pointer. Without this the page says all it has to say in its tables.
for (const plot of document.querySelectorAll("[data-curves]")) {
  const { end, name, unit, curves } = JSON.parse(plot.dataset.curves);
  const add = (parent, tag, look, words = "") => {
    const element = parent.appendChild(document.createElement(tag));
    element.className = look;
    element.textContent = words;
    return element;
  };
  const line = add(plot, "i", "pointer");
  const tip = add(plot, "div", "tip");

  // The index of the number nearest to x, in numbers that rise.
  const nearest = (numbers, x) => {
    let low = 0, high = numbers.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (numbers[middle] < x) low = middle; else high = middle;
    }
    return x - numbers[low] < numbers[high] - x ? low : high;
  };

  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const x = share * end;
    line.style.left = `${100 * share}%`;
    tip.replaceChildren();
    tip.style.left = share < 0.5 ? `${100 * share}%` : "auto";
    tip.style.right = share < 0.5 ? "auto" : `${100 * (1 - share)}%`;
    add(tip, "b", "", `${name} ${+x.toPrecision(3)}`);
    for (const curve of curves) {
      const y = curve.y[nearest(curve.x, x)];
      add(tip, "span", `key ${curve.look}`, `${curve.name} ${y === null ? "–" : y + unit}`);
    }
    plot.classList.add("pointed");
  });
  plot.addEventListener("pointerleave", () => plot.classList.remove("pointed"));
}
