/** A request the host refuses: the ERROR record's code and text. The session goes on. */
export class NfcRefusal extends Error {
  readonly code: number

  constructor(code: number, text: string, cause?: unknown) {
    super(text, { cause })
    this.code = code
  }
}

export const permissionRefused = (path: string, access: 'read' | 'write'): NfcRefusal =>
  new NfcRefusal(11, `NfcAioProcessOpenFileMsg: permission check failed for file '${path}', access = ${access === 'read' ? 1 : 2}`)
export const liveDisk = (): NfcRefusal => new NfcRefusal(1, 'Thin/TBZ/Sparse disks cannot be opened in multiwriter mode')
export const lockedFile = (path: string): NfcRefusal => new NfcRefusal(16_392, `DiskLib error 16392: Failed to lock the file '${path}'`)
export const noMemory = (bytes: number): NfcRefusal => new NfcRefusal(5, `Failed to allocate the requested ${bytes} bytes`)
export const tooManySessions = (): NfcRefusal => new NfcRefusal(1, 'NfcAioOpenSession: the maximum number of sessions is in use')
export const badRequest = (text: string): NfcRefusal => new NfcRefusal(3, text)
export const ioFailed = (text: string): NfcRefusal => new NfcRefusal(13, text)
export const noSpace = (): NfcRefusal =>
  new NfcRefusal(13, 'DiskLib error: There is not enough space in the file system for the selected operation')
