/** A blob in a pack. */
export type PackedBlob = {
  readonly id: Uint8Array
  readonly offset: number
  readonly length: number
  /** 0: stored as it is. */
  readonly uncompressedLength: number
}

/** A blob, and the memory its bytes go into. */
export type BlobToOpen = PackedBlob & {
  /** Exactly as long as the blob's plain bytes. In memory shared with threads it is written by them, sound or not, without a copy. */
  readonly into: Uint8Array
}
