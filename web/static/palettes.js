// The inks. Every palette is cut from one small set of printing-ink colours, so that any
// hundred covers side by side look like one shelf. An interest picks a family; a pin picks
// one of the family's two papers. g = ground, t = type, a/b/c = the shapes.

const CREAM = "#f0e7d6", SAND = "#e2d0b0", BLUSH = "#e6c4b2", SAGE = "#c2cbb0", MIST = "#c3d0d1";
const NAVY = "#20303f", FOREST = "#24392f", PLUM = "#412c3a", SOOT = "#2a2826";
const RUST = "#a6482d", OCHRE = "#cd9a3c", TEAL = "#396a6c", ROSE = "#c98474", OLIVE = "#7c8450", MOSS = "#59643a", SKY = "#86a7b3";

export const FAMILIES = [
  [{ g: CREAM, t: SOOT, a: RUST, b: OCHRE, c: NAVY }, { g: RUST, t: CREAM, a: OCHRE, b: BLUSH, c: PLUM }],
  [{ g: SAGE, t: FOREST, a: FOREST, b: OLIVE, c: CREAM }, { g: FOREST, t: CREAM, a: SAGE, b: OCHRE, c: OLIVE }],
  [{ g: MIST, t: NAVY, a: NAVY, b: TEAL, c: CREAM }, { g: NAVY, t: CREAM, a: SKY, b: MIST, c: ROSE }],
  [{ g: BLUSH, t: PLUM, a: PLUM, b: RUST, c: CREAM }, { g: PLUM, t: BLUSH, a: ROSE, b: BLUSH, c: OCHRE }],
  [{ g: SAND, t: SOOT, a: TEAL, b: SOOT, c: CREAM }, { g: TEAL, t: CREAM, a: SAND, b: MIST, c: NAVY }],
  [{ g: OCHRE, t: SOOT, a: SOOT, b: RUST, c: CREAM }, { g: SOOT, t: CREAM, a: OCHRE, b: SAND, c: RUST }],
  [{ g: CREAM, t: FOREST, a: OLIVE, b: SKY, c: FOREST }, { g: MOSS, t: CREAM, a: CREAM, b: SAGE, c: FOREST }],
  [{ g: CREAM, t: NAVY, a: ROSE, b: NAVY, c: SKY }, { g: SKY, t: NAVY, a: NAVY, b: CREAM, c: RUST }],
];
