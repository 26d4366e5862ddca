"use strict";
// The slider of the examples: which words each compressor keeps at a rate, and what was answered.
(() => {
  const source = document.getElementById("examples-data");
  if (!source) return;
  const { rates, examples, unanswered } = JSON.parse(source.textContent);
  const slider = document.getElementById("rate");
  const shown = document.getElementById("rate-shown");

  const element = (name, className, text) => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;  // Never as markup: these are strangers' texts.
    return made;
  };

  const bits = (packed) => {
    const bytes = atob(packed);
    return (word) => (bytes.charCodeAt(word >> 3) >> (7 - (word & 7))) & 1;
  };

  const marked = (words, keep) => {
    const runs = document.createDocumentFragment();
    for (let start = 0, end; start < words.length; start = end) {
      const kept = keep(start);
      for (end = start + 1; end < words.length && keep(end) === kept; end++);
      const [, space, text] = words.slice(start, end).join("").match(/^(\s*)([^]*)$/);
      runs.append(space, kept ? element("mark", "kept", text) : element("del", "dropped", text));
    }
    return runs;
  };

  const show = () => {
    const at = Number(slider.value);
    shown.textContent = rates[at];
    slider.setAttribute("aria-valuetext", `rate ${rates[at]}`);
    examples.forEach((example, number) => example.sides.forEach((side, column) => {
      const place = document.getElementById(`side-${number}-${column}`);
      const { keep, lengths, answers, reward } = side.at[at];
      const words = side.words || example.words;
      place.querySelector(".text").replaceChildren(marked(words, bits(keep)));
      place.querySelector(".lengths").textContent = lengths;
      place.querySelector(".reward").textContent = reward;
      answers.forEach((answer, asked) => {
        const cell = document.getElementById(`answer-${number}-${asked}-${column}`);
        cell.querySelector(".score").textContent = answer?.score ?? "";
        cell.querySelector("dd").textContent = answer?.text ?? unanswered;
      });
    }));
  };

  slider.addEventListener("input", show);
  show();  // A browser may have kept the slider where it was when the page was left.
})();

// The values of a plot's curves, for who points at it, touches it, or moves along it by arrow keys.
for (const plot of document.querySelectorAll(".plot")) {
  const readings = JSON.parse(plot.dataset.readings);
  const [line, said] = ["line", "said"].map((name) => {
    const made = document.createElement("span");
    made.className = name;
    made.ariaHidden = "true";  // The slider says it.
    return made;
  });
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", max: readings.length - 1, value: readings.length - 1 });
  slider.ariaLabel = `${plot.dataset.title}: values by step`;

  const show = () => {
    const [x, text] = readings[slider.value];
    slider.ariaValueText = said.textContent = text;
    line.style.left = `${100 * x}%`;
    said.classList.toggle("right", x < 0.5);
  };
  const point = (event) => {
    const { left, width } = plot.getBoundingClientRect();
    const x = (event.clientX - left) / width;
    const distance = ([at]) => Math.abs(at - x);
    slider.value = readings.indexOf(readings.reduce((a, b) => (distance(b) < distance(a) ? b : a)));
    show();
  };

  slider.addEventListener("input", show);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointermove", point);
  plot.append(line, said, slider);
  show();
}
