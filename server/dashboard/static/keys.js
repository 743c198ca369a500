// The keyboard. Where somebody types or chooses, keys are left to the field.

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Calls what a key stands for: move(right, down), pause(), fullScreen(), resize(size), help(). */
export function listen({ move, pause, fullScreen, resize, help }) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { target, key } = event;
    if (document.querySelector("dialog[open]") || target.matches("input, select, textarea")) return;
    const onButton = target.matches("button, summary, a");
    if (MOVES[key] && !target.closest(".scroll")) move(...MOVES[key]);
    else if (key === " " && !onButton) pause();
    else if (key === "f") fullScreen();
    else if (key === "1" || key === "2") resize(Number(key));
    else if (key === "?") help();
    else return;
    event.preventDefault();
  });
}
