// A small moving chart on a canvas: time to the right, the last sample at the edge. Where
// samples are missing the line breaks; it never bridges what was not measured.

const GAP_MS = 3500; // three missed polls

/** samples: [{at, value}], oldest first; value may be NaN. */
export function draw(canvas, samples, { span, now, colour, floor = 0 }) {
  const scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const shown = samples.filter((s) => now - s.at <= span);
  const top = Math.max(floor, ...shown.map((s) => (Number.isFinite(s.value) ? s.value : 0))) * 1.15 || 1;
  const x = (s) => width - ((now - s.at) / span) * width;
  const y = (s) => height - 1.5 - (s.value / top) * (height - 3);
  for (const run of runs(shown)) {
    pen.beginPath();
    run.forEach((s, i) => (i ? pen.lineTo(x(s), y(s)) : pen.moveTo(x(s), y(s))));
    pen.strokeStyle = colour;
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    pen.stroke();
    pen.lineTo(x(run[run.length - 1]), height);
    pen.lineTo(x(run[0]), height);
    pen.closePath();
    pen.globalAlpha = 0.13;
    pen.fillStyle = colour;
    pen.fill();
    pen.globalAlpha = 1;
  }
}

function runs(samples) {
  const out = [];
  let run = [];
  for (const sample of samples) {
    const before = run[run.length - 1];
    if (!Number.isFinite(sample.value) || (before && sample.at - before.at > GAP_MS)) {
      if (run.length) out.push(run);
      run = [];
    }
    if (Number.isFinite(sample.value)) run.push(sample);
  }
  if (run.length) out.push(run);
  return out;
}
