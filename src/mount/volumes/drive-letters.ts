import { readHiveValues } from './hive.ts'
import { guid } from './part.ts'
import type { Volume } from './volume.ts'

/** Where Windows keeps the SYSTEM hive, from the top of its volume; compared without case. */
export const SYSTEM_HIVE: readonly string[] = ['Windows', 'System32', 'config', 'SYSTEM']

const NAME = /^\\DosDevices\\([A-Z]):$/i
const BY_GUID = 'DMIO:ID:'

/**
 * Drive letters that a Windows gave to these volumes, from `MountedDevices` of its SYSTEM hive: `C` → volume. Letters of volumes that are not here (removable
 * ones, dynamic disks, network drives) are left out. Errors: INTEGRITY, see `readHiveValues`.
 */
export function driveLetters(hive: Uint8Array, volumes: readonly Volume[]): Map<string, Volume> {
  const letters = new Map<string, Volume>()
  for (const [name, value] of readHiveValues(hive, ['MountedDevices']) ?? []) {
    const letter = NAME.exec(name)?.[1]?.toUpperCase()
    const volume = letter === undefined ? undefined : volumes.find((candidate) => isNamed(candidate, value))
    if (letter !== undefined && volume !== undefined) letters.set(letter, volume)
  }
  return new Map([...letters].toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

/** MBR: disk signature and offset in bytes. GPT: the unique GUID of the partition. */
function isNamed({ partition }: Volume, value: Buffer): boolean {
  if (partition === undefined) return false
  if (partition.scheme === 'mbr') {
    return value.length === 12 && value.readUInt32LE(0) === partition.diskSignature && value.readBigUInt64LE(4) === BigInt(partition.offset)
  }
  return value.length === 24 && value.toString('latin1', 0, 8) === BY_GUID && guid(value.subarray(8)) === partition.uuid
}
