// Numbers and text for people. Text from elsewhere goes into the page through `text` and `element` alone: never as markup.

const NONE = "–";

/** A number with as many digits as help: 1,653 and 3.05 and 0.0187; a dash for null. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toPrecision(4)} G`;
  if (size >= 1e7) return `${(value / 1e6).toPrecision(4)} M`;
  if (Number.isInteger(value) || size >= 1000) return Math.round(value).toLocaleString("en-GB");
  if (size >= 100) return value.toFixed(1);
  if (size >= 1) return value.toFixed(2);
  if (size < 1e-4) return size === 0 ? "0" : value.toExponential(1);
  return String(Number(value.toPrecision(digits)));
}

/** A whole number, or one decimal where it is small: rates and lags. */
export function rate(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  return Math.abs(value) >= 100 ? number(Math.round(value)) : value.toFixed(1);
}

/** Milliseconds, three digits of them. */
export function milliseconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  if (value >= 1000) return `${(value / 1000).toFixed(value >= 10000 ? 0 : 1)} s`;
  return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

/** Seconds as 1:02:03, days counted as hours. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  const whole = Math.max(0, Math.round(seconds));
  const two = (part) => String(part).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

/** Ticks of an axis: 250k, 1.5M. */
export function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${Number((value / 1e9).toPrecision(4))}G`;
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(4))}k`;
  return String(Number(value.toPrecision(6)));
}

/** Seconds on an axis: 90 s, 12 min, 3.5 h. */
export function shortDuration(seconds) {
  if (seconds < 120) return `${Number(seconds.toPrecision(3))} s`;
  if (seconds < 7200) return `${Number((seconds / 60).toPrecision(3))} min`;
  return `${Number((seconds / 3600).toPrecision(3))} h`;
}

/** Writes text into an element if it differs, so that nothing is laid out again for nothing. */
export function text(target, value) {
  const wanted = String(value);
  if (target.textContent !== wanted) target.textContent = wanted;
}

/** A new element with a class and text. */
export function element(tag, className = "", content = null) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== null) made.textContent = String(content);
  return made;
}

/** Makes a list have so many children. */
export function keep(list, count, make) {
  while (list.children.length > count) list.lastElementChild.remove();
  while (list.children.length < count) list.append(make());
}

/** Fills a <dl> with pairs, reusing what stands there. */
export function fillPairs(list, pairs) {
  keep(list, pairs.length, () => {
    const pair = element("div");
    pair.append(element("dt"), element("dd"));
    return pair;
  });
  pairs.forEach(([label, value], i) => {
    text(list.children[i].children[0], label);
    text(list.children[i].children[1], value);
  });
}

/** Fills a <select> with [value, label] pairs if they differ from those it has, and chooses one. */
export function offer(select, pairs, chosen) {
  const wanted = JSON.stringify(pairs);
  if (select.dataset.offers !== wanted) {
    select.dataset.offers = wanted;
    select.replaceChildren(...pairs.map(([value, label]) => {
      const option = element("option", "", label);
      option.value = value;
      return option;
    }));
  }
  if (select.value !== chosen) select.value = chosen;
}

/** The colour that style.css gives a name, as it is in the present scheme. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
