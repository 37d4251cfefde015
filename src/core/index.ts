/**
 * Rank 0. What every other room may use: the trade's shared values, byte ranges, block interfaces, the one error class, clock, log, ids.
 * No I/O but changes to local files (`files.ts`); nothing here knows vSphere calls, formats or repositories.
 */
export { type Abortable, anySignal, throwIfAborted, unlessAborted } from './abort.ts'
export type { BlockSink, BlockSource, FilePlace, Verdict } from './block.ts'
export { ByteChannel, type ChannelOptions } from './byte-channel.ts'
export { formatBytes, GIB, isZero, KIB, MIB, readU64, SECTOR, writeU64 } from './bytes.ts'
export { type Clock, sinceBootMs, systemClock } from './clock.ts'
export { Coverage } from './coverage.ts'
export { allEnded } from './ended.ts'
export { type Effect, effect, effectNow, EFFECT_AFTER, EFFECT_BEFORE, fenceEffects } from './effect.ts'
export {
  AgentError,
  type AgentErrorInit,
  ERROR_CODES,
  type ErrorCode,
  fromErrno,
  isAgentError,
  type Retry,
  toAgentError,
} from './errors.ts'
export { isSafeFileName, safeFileName } from './file-name.ts'
export {
  closeDescriptor,
  ensureDirectory,
  type InputFile,
  isMissing,
  isThere,
  type LogHandle,
  makeDirectory,
  makeTemporaryDirectory,
  openFuseDevice,
  openDescriptor,
  openInput,
  openLogLines,
  openOutput,
  openScratch,
  openToAppend,
  type OutputFile,
  type OutputMode,
  removeDirectory,
  removeFile,
  removeTree,
  renameFile,
  type ScratchFile,
  setOwner,
  setPermissions,
  syncDirectory,
  writeFileAtomic,
  writeFileOnce,
  writeAttribute,
  writeFileWhole,
  writeHere,
} from './files.ts'
export { type AgentId, type ClaimId, createIds, type Ids, type JobId, type PointId, type RunId } from './ids.ts'
export { type Log, type LogFields, silentLog } from './log.ts'
export { onCall } from './on-call.ts'
export { createMarks, formatMark, type Mark, type MarkedThing, markHost, type Marks, parseMark } from './mark.ts'
export * from './model.ts'
export { formatLength, formatMoment } from './moments.ts'
export { printable } from './printable.ts'
export type { RunRecord } from './run-record.ts'
export { GROUP_GRACE_MS, type GroupEnded, type GroupOptions, runGroup } from './program-group.ts'
export {
  type Ended,
  findProgram,
  type ProgramOptions,
  runProgram,
  type RunningProgram,
  signalProcess,
  spawnProgram,
  startProgram,
} from './programs.ts'
export {
  alignRange,
  clipRange,
  coalesceExtents,
  type Extent,
  type ExtentKind,
  intersectRanges,
  mergeRanges,
  type Range,
  rangeEnd,
  totalLength,
} from './range.ts'
export { WriteBack } from './write-back.ts'
export { VSS_BACKUP_TYPES, VSS_CONTEXTS, type WindowsQuiesce } from './windows-quiesce.ts'
export { type NativeLibrary, nativeLibrary } from './native-library.ts'
export { nodeTls } from './node-tls.ts'
export { fillWithZeros, readMemory, sharedMemory } from './read-memory.ts'
export { type FileReader, readableMode } from './file-reader.ts'
export type { ScriptPair } from './script-pair.ts'
export { Secret } from './secret.ts'
export { type Stage, type StageFacts, STAGES, type StagesToCome } from './stage-facts.ts'
export { SilenceWatch } from './silence-watch.ts'
export { DEFAULT_TRANSPORTS, TRANSPORT_NAMES } from './transport-order.ts'
export type { AttachedDisk, TransportClaim, TransportClaimKind, TransportClaimKinds, TransportClaims } from './transport-claims.ts'
