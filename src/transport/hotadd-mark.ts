import { type ClaimId, type JobId, type Mark, type Marks, parseMark } from '../core/index.ts'
import type { ExtraEntry } from '../vsphere/index.ts'

const PREFIX = 'vcb-proxy.attached.'
/** A mark, then the file: `… time=2026-11-26T04:00:00.000Z file=[ds] dir/x.vmdk`. No entry of ours is longer. Characters. */
const LONGEST = 2000
const VALUE = /^(.*?Z) file=(\[.*)$/s

/** The name of the entry in the proxy VM's extraConfig that a claim's disk is attached with. */
export const attachedKey = (claim: ClaimId): string => `${PREFIX}${claim}`

/** The entry that proves later, even without a journal, whose an attached disk is. */
export const attachedEntry = (marks: Marks, job: JobId, claim: ClaimId, fileName: string): ExtraEntry => ({
  key: attachedKey(claim),
  value: `${marks.text('disk', job, claim)} file=${fileName}`,
})

/** The entries of ours in an extraConfig; what we would not have written character by character is none. */
export function attachedEntries(extraConfig: ReadonlyMap<string, string>): readonly { readonly mark: Mark; readonly fileName: string }[] {
  return [...extraConfig].flatMap(([key, value]) => {
    if (!key.startsWith(PREFIX) || value.length > LONGEST) return []
    const [, text = '', fileName = ''] = VALUE.exec(value) ?? []
    const mark = parseMark('disk', text)
    return mark === undefined || key !== attachedKey(mark.claim) ? [] : [{ mark, fileName }]
  })
}
