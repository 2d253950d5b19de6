// The page: sliders in, words and bars out.

const MINUS = "\u2212";
const spellShare = (share) => `${(100 * share).toFixed(1)} %`;
const spellNumber = (value) => String(Number(value.toPrecision(3))).replace("-", MINUS);
// As many digits as a slider's steps can tell apart.
const spellSetting = (value, step) => {
  const digits = clamp(1 - Math.floor(Math.log10(step)), 0, 8);
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? MINUS : "") + text;
};
function spellPoints(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return (value > 0 ? "+" : MINUS) + text;
}
const spellInterval = ({ low, high }) => `${spellPoints(low)} to ${spellPoints(high)}`;

// Which radius is that of which regions.
const RADII = { rho: ["kl", "reverse_kl"], aitchison: ["aitchison"], l2: ["l2"] };

class Page {
  constructor(root, content) {
    this.root = root;
    this.content = content;
    this.explorer = new Explorer(content);
    this.start = {
      state: content.state.map((feature) => feature.value),
      floor: content.floor.slice(),
      cap: content.cap.slice(),
      policy: content.kind,
      region: content.region,
      rho: content.rho,
      aitchison: content.aitchison,
      l2: content.l2,
    };
    this.sliders = Array.from(root.querySelectorAll("input[type=range]"));
    for (const slider of this.sliders) slider.addEventListener("input", () => this.move(slider));
    this.choices = Array.from(root.querySelectorAll("input[type=radio]"));
    for (const choice of this.choices) choice.addEventListener("change", () => this.choose("policy", choice.value));
    this.select = root.querySelector("select");
    this.select.addEventListener("change", () => this.choose("region", this.select.value));
    root.querySelector("[data-reset]").addEventListener("click", () => this.reset());
    root.hidden = false;
    this.reset();
  }

  // Sliders move in steps; until one is moved its setting is the answer's own, to the last digit.
  reset() {
    this.settings = structuredClone(this.start);
    for (const slider of this.sliders) {
      slider.value = this.read(slider);
      this.label(slider);
    }
    for (const choice of this.choices) choice.checked = choice.value === this.settings.policy;
    this.select.value = this.settings.region;
    this.show();
  }

  move(slider) {
    const value = Number(slider.value);
    const { kind, place } = slider.dataset;
    if (kind in RADII) this.settings[kind] = value;
    else this.settings[kind][Number(place)] = value;
    this.label(slider);
    this.schedule();
  }

  choose(what, value) {
    this.settings[what] = value;
    this.schedule();
  }

  read(slider) {
    const { kind, place } = slider.dataset;
    return kind in RADII ? this.settings[kind] : this.settings[kind][Number(place)];
  }

  label(slider) {
    const value = this.read(slider);
    const { kind } = slider.dataset;
    const isShare = kind === "floor" || kind === "cap";
    let text = isShare ? spellShare(value) : spellSetting(value, Number(slider.step));
    if (kind === "state") {
      const { least, greatest } = this.content.state[Number(slider.dataset.place)];
      if (value < least || value > greatest) text += ", outside";
    }
    slider.setAttribute("aria-valuetext", text);
    this.root.querySelector(`[data-of="${slider.id}"]`).textContent = text;
  }

  // One answer a frame, however many events a drag sends; a search waits until the drag rests.
  schedule() {
    if (this.settings.policy === "s") {
      this.root.setAttribute("aria-busy", "true");
      clearTimeout(this.rest);
      this.rest = setTimeout(() => this.show(), 150);
      return;
    }
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.show();
    });
  }

  show() {
    clearTimeout(this.rest);
    const answer = this.explorer.answer(this.settings);
    this.root.removeAttribute("aria-busy");
    this.latest = answer;
    this.find("result").hidden = Boolean(answer.problem);
    for (const [kind, regions] of Object.entries(RADII)) {
      this.find(kind).hidden = !regions.includes(this.settings.region);
    }
    const badge = this.find("advice");
    const given = answer.advice === "given";
    badge.textContent = answer.problem ? "no mixture" : `advice ${answer.advice}`;
    badge.className = `badge ${answer.problem ? "failed" : given ? "passed" : "warned"}`;
    this.find("reason").textContent = answer.problem || answer.reason;
    if (!answer.problem) {
      this.find("gain").textContent = `${spellPoints(answer.gain.estimate)} points`;
      this.find("interval").textContent = `${100 * this.content.confidence} %: ${spellInterval(answer.gain)}`;
      this.showRows(answer);
    }
    this.showWarnings(answer);
    this.showCommand();
    this.announce(answer);
  }

  find(name) {
    return this.root.querySelector(`[data-show="${name}"]`);
  }

  showRows({ mixture, reference, effects }) {
    const largest = Math.max(...mixture, ...reference);
    this.root.querySelectorAll("tr[data-domain]").forEach((row) => {
      const k = Number(row.dataset.domain);
      const cell = (name) => row.querySelector(`[data-cell="${name}"]`);
      cell("bar").style.width = `${(100 * mixture[k]) / largest}%`;
      cell("tick").style.left = `${(100 * reference[k]) / largest}%`;
      cell("share").textContent = spellShare(mixture[k]);
      cell("change").textContent = spellPoints(100 * (mixture[k] - reference[k]), 1);
      cell("effect").textContent = spellPoints(effects[k].estimate);
      cell("effect").title = `${100 * this.content.confidence} %: ${spellInterval(effects[k])}`;
    });
  }

  listWarnings(answer) {
    if (answer.problem) return [];
    const { support, leverage, placed, gain, effects } = answer;
    const warnings = [];
    if (placed.name !== null) warnings.push(this.tellPlace(placed));
    if (support.outside.length) {
      warnings.push(`Outside the range of the runs, so extrapolated: ${support.outside.join(", ")}.`);
    }
    if (support.distance > support.limit) {
      warnings.push(
        `This state lies ${spellNumber(support.distance)} from the runs' mean; 95 % of the runs lie within ${spellNumber(support.limit)}.`,
      );
    }
    if (!leverage.holds) {
      warnings.push(
        `The mixture lies outside the runs' mixtures: leverage ${spellNumber(leverage.value)}, 95 % of the runs lie below ${spellNumber(leverage.limit)}.`,
      );
    }
    if (answer.note) warnings.push(answer.note);
    if (this.settings.policy === "a" && !effects.some((effect) => effect.estimate > 0)) {
      warnings.push("No domain has a positive effect at this state: the answer is the reference itself.");
    }
    if (gain.estimate < 0) warnings.push("The rule overshoots: a loss is predicted. Take a smaller radius.");
    return warnings;
  }

  tellPlace({ name, x }) {
    const where = this.content.state.map((feature, j) => `${feature.name} ${spellNumber(x[j])}`).join(", ");
    const who = name === "the target" ? name : `run ${name}`;
    return `This fit is known here at the runs' own states alone. Shown is the nearest one, of ${who}: ${where}.`;
  }

  showWarnings(answer) {
    const items = this.listWarnings(answer).map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    });
    this.find("warnings").replaceChildren(...items);
    this.find("warnings").hidden = !items.length;
  }

  // What to add to the command line for the same answer.
  showCommand() {
    const { domains, state } = this.content;
    const parts = [];
    const spell = (pairs) => `{${pairs.map(([name, value]) => `${name}: ${Number(value.toPrecision(8))}`).join(", ")}}`;
    const changed = (kind) => this.settings[kind].some((value, i) => value !== this.start[kind][i]);
    const { policy, region } = this.settings;
    const isMoved = !this.content.is_own || policy !== this.start.policy || region !== this.start.region;
    if (isMoved) parts.push(`policy=causalmix_${policy}`, `policy.region=${region}`);
    if (isMoved && policy === "s") {
      const { n_candidates, n_best, kappa } = this.content.search;
      parts.push(`policy.n_candidates=${n_candidates}`, `policy.n_best=${n_best}`, `policy.kappa=${kappa}`);
    }
    for (const [kind, regions] of Object.entries(RADII)) {
      if (!regions.includes(region) || !(isMoved || this.settings[kind] !== this.start[kind])) continue;
      parts.push(`policy.${kind === "rho" ? "rho" : "radius"}=${Number(this.settings[kind].toPrecision(8))}`);
    }
    if (changed("state")) parts.push(`'target.state=${spell(state.map((f, j) => [f.name, this.settings.state[j]]))}'`);
    for (const kind of ["floor", "cap"]) {
      if (changed(kind)) parts.push(`'target.${kind}s=${spell(domains.map((name, k) => [name, this.settings[kind][k]]))}'`);
    }
    this.find("command").hidden = !parts.length;
    this.find("overrides").textContent = parts.join(" ");
  }

  // Screen readers hear one sentence once the sliders rest.
  announce(answer) {
    clearTimeout(this.pause);
    this.pause = setTimeout(() => {
      this.find("status").textContent = answer.problem || this.spellAnswer(answer);
    }, 600);
  }

  spellAnswer({ advice, gain, mixture }) {
    const shares = this.content.domains.map((name, k) => `${name} ${spellShare(mixture[k])}`).join(", ");
    return `Advice ${advice}. Gain ${spellPoints(gain.estimate)} points, from ${spellInterval(gain)}. ${shares}.`;
  }
}

const root = document.getElementById("explore");
const page = new Page(root, JSON.parse(document.getElementById("explorer-data").textContent));
// For the console and for tests: the settings as they are, and answers to settings of one's own.
window.explorer = {
  content: page.content,
  generator: () => new Generator(page.content.search),
  settings: () => structuredClone(page.settings),
  answer: (settings = page.settings) => page.explorer.answer(settings),
};
