/** Parts that all packs fall into evenly, by the first byte of their names, which are digests: so a part is the same at every look. */
export const SLICES = 256

/** The part of a pack, from 0 on. */
export const sliceOf = (pack: string): number => Number.parseInt(pack.slice(0, 2), 16)
