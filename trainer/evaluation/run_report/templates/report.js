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
