/** All bytes of a file, in order. */
export async function* wholeOf(file: {
  readonly size: number
  read(offset: number, into: Uint8Array): Promise<void>
}): AsyncGenerator<Buffer> {
  for (let at = 0; at < file.size; ) {
    const chunk = Buffer.alloc(Math.min(256 * 1024, file.size - at))
    await file.read(at, chunk)
    yield chunk
    at += chunk.length
  }
}
