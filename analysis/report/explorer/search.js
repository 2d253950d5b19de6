// CausalMix-S: the mean of the best of many mixtures, drawn as the analysis draws them.

const HALVINGS = 40;
const N_CONCENTRATIONS = 8;

// The mean of the best by predicted outcome less kappa standard errors of the gain; pulled back into the region.
function searchMixture(model, x, { theta, covariance }, region, search) {
  const { reference } = region;
  const candidates = drawCandidates(new Generator(search), region, theta, search);
  if (!candidates.length) return { mixture: reference.slice(), note: NO_CANDIDATE };
  const scores = model.predict(x, candidates);
  if (search.kappa > 0) {
    const from = embed(reference, model.offset);
    candidates.forEach((candidate, i) => {
      const d = difference(embed(candidate, model.offset), from);
      scores[i] -= search.kappa * Math.sqrt(Math.max(quadratic(covariance, d), 0));
    });
  }
  const best = range(candidates.length).sort((a, b) => scores[b] - scores[a] || a - b).slice(0, search.n_best);
  const mean = reference.map((_, k) => sum(best.map((i) => candidates[i][k])) / best.length);
  const whole = sum(mean);
  const mixture = pullBack(mean.map((share) => share / whole), candidates[best[0]], region);
  return { mixture, note: best.length < search.n_best ? `Only ${best.length} candidates are left to choose from.` : null };
}

const NO_CANDIDATE = "No candidate mixture lies in the region: the reference is kept.";

// Mixtures of a region; draws outside go half the way to the reference, or to A's answer, until they are inside.
function drawCandidates(generator, region, theta, { n_candidates: n, n_best }) {
  const { reference, box } = region;
  const room = 1 - sum(box.floor);
  const isOff = region.name === "off";
  const anchors = [reference];
  let drawn;
  if (isOff) {
    drawn = raiseToFloors(generator.dirichlet(reference.map(() => 1), n), box, room);
  } else {
    const aim = region.solve(theta);
    anchors.push(aim);
    const best = theta.some((value) => value > 0) ? fillBox(theta, reference, box) : reference;
    const even = reference.map(() => 1 / reference.length);
    const between = aim.map((share, k) => 0.5 * (share + best[k]));
    drawn = drawAround(generator, [reference, even, between, aim], box, room, n);
  }
  const anchor = anchors.find((mixture) => region.contains(mixture));
  const inside = drawn.filter((mixture) => region.contains(mixture));
  drawn = drawn.filter((mixture) => !region.contains(mixture));
  const enough = isOff ? n_best : n;
  for (let i = 0; anchor && i < HALVINGS && drawn.length && inside.length < enough; i += 1) {
    drawn = drawn.map((mixture) => mixture.map((share, k) => 0.5 * (share + anchor[k])));
    const holds = drawn.map((mixture) => region.contains(mixture));
    inside.push(...drawn.filter((_, j) => holds[j]));
    drawn = drawn.filter((_, j) => !holds[j]);
  }
  return inside;
}

const raiseToFloors = (draws, box, room) => draws.map((draw) => draw.map((part, k) => box.floor[k] + room * part));

function drawAround(generator, centres, box, room, n) {
  const K = box.floor.length;
  const [least, most] = [Math.log(K), Math.log(100 * K)];
  const concentrations = range(N_CONCENTRATIONS).map(() => Math.exp(least + (most - least) * generator.uniform()));
  const each = Math.ceil(n / (centres.length * N_CONCENTRATIONS));
  const drawn = [];
  for (const centre of centres) {
    // Floors are added after the draw, so the centre is moved back by them first.
    const whole = sum(centre);
    const shape = centre.map((share, k) => Math.max(share - box.floor[k] * whole, 1e-4) / room);
    for (const concentration of concentrations) {
      const draws = generator.dirichlet(shape.map((part) => concentration * part), each);
      for (const mixture of raiseToFloors(draws, box, room)) drawn.push(mixture);
    }
  }
  return drawn.slice(0, n);
}

// The mixture nearest to the mean on the way from the best candidate, which lies inside.
function pullBack(mean, best, region) {
  if (region.contains(mean)) return mean;
  const blend = (part) => best.map((share, k) => (1 - part) * share + part * mean[k]);
  let [low, high] = [0, 1];
  for (let i = 0; i < 50; i += 1) {
    const middle = 0.5 * (low + high);
    if (region.contains(blend(middle))) low = middle;
    else high = middle;
  }
  return blend(low);
}
