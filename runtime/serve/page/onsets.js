// What is drawn of a sound: its peaks, and its onsets by spectral flux. The onsets are those of the project's measure
// (train/metrics/onsets.py; a test compares both): 16 kHz, 40 mel bands, 100 spectra a second.

const RATE = 16000, HOP = 160, SIZE = 1024, BINS = SIZE / 2 + 1, BANDS = 40, LOW = 50, HIGH = 7600;
const FRAME_RATE = RATE / HOP;
const FLOOR = 1e-4; // least power of a band, for a sound with peak 1
const LAG = 3, AROUND = 10, APART = 7; // spectra
const ABOVE_MEAN = 0.12, ABOVE_ZERO = 0.15; // shares of the highest flux that an onset must exceed
const SILENT = 1e-4; // a sound with a lower peak (-80 dB) has no onsets

/** The largest samples of equal parts of a sound, for drawing. `parts` is their number. */
export function peaks(samples, parts) {
  const found = new Float32Array(Math.min(parts, samples.length));
  for (let part = 0; part < found.length; part++) {
    const begin = Math.floor((part * samples.length) / found.length);
    const end = Math.floor(((part + 1) * samples.length) / found.length);
    for (let n = begin; n < end; n++) if (Math.abs(samples[n]) > Math.abs(found[part])) found[part] = samples[n];
  }
  return found;
}

/** Seconds of the onsets of a sound at 16 kHz. */
export function onsets(samples) {
  const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return peak < SILENT ? [] : pick(flux(samples, peak));
}

/** The rise of the log power from LAG spectra before, averaged over the bands. */
function flux(samples, peak) {
  const count = 1 + Math.floor(samples.length / HOP);
  const levels = Array.from({ length: count }, (_, n) => bandLevels(samples, n * HOP - SIZE / 2, peak));
  const found = new Float64Array(count);
  for (let n = LAG; n < count; n++) {
    let sum = 0;
    for (let band = 0; band < BANDS; band++) sum += Math.max(0, levels[n][band] - levels[n - LAG][band]);
    found[n - 1] = sum / BANDS; // between the two spectra, towards the later one
  }
  return found;
}

const HANN = Float64Array.from({ length: SIZE }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / (SIZE - 1)));

function bandLevels(samples, begin, peak) {
  const real = new Float64Array(SIZE), imaginary = new Float64Array(SIZE);
  for (let n = 0; n < SIZE; n++) real[n] = ((samples[begin + n] ?? 0) / (peak + 1e-9)) * HANN[n];
  transform(real, imaginary);
  return FILTERS.map(({ first, weights }) => {
    let power = 0;
    weights.forEach((weight, n) => (power += weight * (real[first + n] ** 2 + imaginary[first + n] ** 2)));
    return Math.log10(Math.max(power, FLOOR) / FLOOR);
  });
}

/** The fast Fourier transform, in place. */
function transform(real, imaginary) {
  for (let n = 0, other = 0; n < SIZE; n++) {
    if (n < other) [real[n], real[other]] = [real[other], real[n]]; // the imaginary part is still zero
    let bit = SIZE >> 1; // count with the bits in reverse
    for (; other & bit; bit >>= 1) other ^= bit;
    other |= bit;
  }
  for (let half = 1; half < SIZE; half *= 2) {
    for (let step = 0; step < half; step++) {
      const c = Math.cos((-Math.PI * step) / half), s = Math.sin((-Math.PI * step) / half);
      for (let a = step; a < SIZE; a += 2 * half) {
        const b = a + half, re = real[b] * c - imaginary[b] * s, im = real[b] * s + imaginary[b] * c;
        real[b] = real[a] - re;
        imaginary[b] = imaginary[a] - im;
        real[a] += re;
        imaginary[a] += im;
      }
    }
  }
}

/** Triangles of equal width on the mel scale: for each band, its first bin and the weights from there on. */
const FILTERS = (() => {
  const mel = (hz) => 1127 * Math.log(1 + hz / 700), hz = (m) => 700 * (Math.exp(m / 1127) - 1);
  const step = (mel(HIGH) - mel(LOW)) / (BANDS + 1);
  const edges = Array.from({ length: BANDS + 2 }, (_, n) => hz(mel(LOW) + n * step));
  return Array.from({ length: BANDS }, (_, band) => {
    const [left, centre, right] = edges.slice(band, band + 3);
    const weights = Array.from({ length: BINS }, (_, bin) => {
      const at = (bin * RATE) / SIZE;
      return Math.max(0, Math.min((at - left) / (centre - left), (right - at) / (right - centre)));
    });
    const first = weights.findIndex((weight) => weight > 0);
    return { first: Math.max(0, first), weights: weights.filter((weight) => weight > 0) };
  });
})();

/** Seconds of the peaks of the flux. */
function pick(strength) {
  const highest = strength.reduce((most, value) => Math.max(most, value), 0);
  const at = (n) => strength[Math.min(Math.max(n, 0), strength.length - 1)];
  const kept = [];
  for (let n = 0; n < strength.length && highest > 0; n++) {
    let most = 0, sum = 0;
    for (let near = n - AROUND; near <= n + AROUND; near++) {
      most = Math.max(most, at(near));
      sum += at(near);
    }
    const isPeak = strength[n] >= most && strength[n] > ABOVE_ZERO * highest;
    const stands = strength[n] > sum / (2 * AROUND + 1) + ABOVE_MEAN * highest;
    if (isPeak && stands && (!kept.length || n - kept.at(-1) > APART)) kept.push(n);
  }
  return kept.map((n) => n / FRAME_RATE);
}
