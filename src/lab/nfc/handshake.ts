import type { Model } from '../model/index.ts'
import type { Admission } from './authd-dialogue.ts'
import { classicFrame, clientWordOf, errorFrame, FRAME, FRAME_BYTES } from './classic-frame.ts'
import type { Speech } from './connection.ts'
import { ConnectionOver } from './inbox.ts'
import { type StepFaults, stepFaults, type StepNames } from './step-faults.ts'

/** Longest names in frame 54. */
const LONGEST_NAME = 4096

/**
 * The classic frames between the hand-over and the first AIO record. In a TLS session one frame is read per TLS record; what else a record holds
 * is not looked at before the next one comes. Anything out of order is answered by frame 4 and the end.
 */
export async function shakeHands(
  { inbox, outlet }: Speech,
  options: { readonly model: Model; readonly admission: Admission; readonly who: StepNames; readonly gone: AbortSignal },
): Promise<{ readonly client: string }> {
  const { model, admission, who, gone } = options
  let strict = admission.encrypted

  const next = async (): Promise<{ frame: Buffer; type: number; faults: StepFaults }> => {
    const frame = await inbox.read(FRAME_BYTES)
    const type = frame.readUInt32LE(0)
    const faults = await stepFaults(model, 'nfc:frame', { ...who, names: [...who.names, String(type)] }, gone)
    if (faults.quirk('looseRecords') !== undefined) strict = false
    if (faults.quirk('end') !== undefined) return refuse(`a fault rule of the lab ended the session at frame ${type}`)
    if (faults.quirk('errorFrame') !== undefined) {
      await outlet.flush(errorFrame(1, faults.quirk('errorFrame')?.value ?? 1, 'The host refuses this session.'))
      throw new ConnectionOver('a fault rule of the lab refused the session')
    }
    return { frame, type, faults }
  }
  const refuse = async (why: string): Promise<never> => {
    await outlet.flush(classicFrame(FRAME.end))
    throw new ConnectionOver(why)
  }
  const expected = async (type: number): Promise<{ frame: Buffer; faults: StepFaults }> => {
    const got = await next()
    if (got.type !== type) return refuse(`frame ${got.type} came where ${type} was due`)
    return got
  }
  const read = (): void => {
    if (strict) inbox.hideRest()
  }

  const reply = classicFrame(FRAME.parametersReply, { 16: 1 })
  let first = await next()
  // Of hosts before ESXi 8 one client saw that they expect frame 43, another that they do not: both pass there.
  const wantsWord = admission.sha256 && (first.type === FRAME.clientWord || model.nfc.version >= 11)
  if (wantsWord) {
    if (first.type !== FRAME.clientWord) return refuse(`frame ${first.type} came where ${FRAME.clientWord} was due`)
    // What a real host does about another word nobody knows.
    if (clientWordOf(first.frame) !== (admission.word ?? '')) model.log.debug('the NFC client’s word is not that of THUMBPRINT_SHA2')
    read()
    first = await next()
  }
  if (first.type !== FRAME.parameters) return refuse(`frame ${first.type} came where ${FRAME.parameters} was due`)
  const parameters = first.faults
  read()
  const held = parameters.quirk('holdParameters') !== undefined
  if (!held) await outlet.flush(reply)

  const { faults: version } = await expected(FRAME.version)
  read()
  if (held) await outlet.flush(reply)
  await outlet.flush(classicFrame(FRAME.version, { 4: version.quirk('version')?.value ?? model.nfc.version }))

  const { frame: connection } = await expected(FRAME.connectionData)
  const [nameBytes, operationBytes] = [connection.readUInt32LE(4), connection.readUInt32LE(8)]
  if (nameBytes > LONGEST_NAME || operationBytes > LONGEST_NAME) return refuse('the names in frame 54 are too long')
  const client = (await inbox.read(nameBytes)).toString('latin1')
  await inbox.read(operationBytes)
  read()
  await expected(FRAME.features)
  read()
  const { faults: start } = await expected(FRAME.start)
  await outlet.flush(classicFrame(FRAME.start))
  if (start.cutAfter) throw new ConnectionOver('a fault rule of the lab cut the connection')
  return { client }
}
