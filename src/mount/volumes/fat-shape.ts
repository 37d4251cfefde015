/** Where what is on a FAT volume (docs/formats/fat.md). Bytes from the beginning of the volume. */
export type FatShape = {
  readonly bits: 12 | 16 | 32
  /** The FAT that is kept; the first one but on a FAT32 that says otherwise. */
  readonly fat: number
  readonly fatBytes: number
  /** The root directory of FAT12 and FAT16. */
  readonly root: number
  readonly rootBytes: number
  /** That of FAT32; 0 otherwise. */
  readonly rootCluster: number
  /** Cluster 2. */
  readonly data: number
  readonly clusterBytes: number
  /** They are numbered from 2 on. */
  readonly clusters: number
}

/** Reads the first sector, all of whose numbers must fit together; undefined where it is none of a FAT. */
export function readFatShape(boot: Buffer): FatShape | undefined {
  const sectorBytes = boot.readUInt16LE(11)
  const clusterSectors = boot.readUInt8(13)
  const reserved = boot.readUInt16LE(14)
  const fats = boot.readUInt8(16)
  const rootEntries = boot.readUInt16LE(17)
  const media = boot.readUInt8(21)
  const isPower = clusterSectors > 0 && (clusterSectors & (clusterSectors - 1)) === 0
  if (![512, 1024, 2048, 4096].includes(sectorBytes) || !isPower || reserved === 0 || (fats !== 1 && fats !== 2)) return undefined
  if ((media !== 0xf0 && media < 0xf8) || boot.readUInt16LE(510) !== 0xaa55) return undefined
  const fatSectors = boot.readUInt16LE(22) || boot.readUInt32LE(36)
  const sectors = boot.readUInt16LE(19) || boot.readUInt32LE(32)
  const rootSectors = Math.ceil((rootEntries * 32) / sectorBytes)
  const dataSector = reserved + fats * fatSectors + rootSectors
  if (fatSectors === 0 || dataSector >= sectors) return undefined
  const clusters = Math.floor((sectors - dataSector) / clusterSectors)
  const shape = {
    fat: reserved * sectorBytes,
    fatBytes: fatSectors * sectorBytes,
    root: (reserved + fats * fatSectors) * sectorBytes,
    rootBytes: rootEntries * 32,
    rootCluster: 0,
    data: dataSector * sectorBytes,
    clusterBytes: clusterSectors * sectorBytes,
    clusters,
  }
  if (boot.readUInt16LE(22) !== 0) return rootEntries === 0 ? undefined : { ...shape, bits: clusters < 4085 ? 12 : 16 }
  const rootCluster = boot.readUInt32LE(44)
  if (rootEntries !== 0 || rootCluster < 2 || rootCluster >= clusters + 2) return undefined
  const flags = boot.readUInt16LE(40)
  const kept = (flags & 0x80) === 0 ? 0 : flags & 0x0f
  if (kept >= fats) return undefined
  return { ...shape, bits: 32, rootCluster, fat: shape.fat + kept * shape.fatBytes }
}
