import { AgentError } from '../core/index.ts'
import type { Descriptor, DescriptorExtent } from './descriptor.ts'

/**
 * A descriptor as bytes, UTF-8, in the order and shape ESXi writes. Keys nobody here knows come back as they were read.
 * Reading the result gives the same descriptor. Errors: USAGE when a value cannot be written (a line break, an unquotable name).
 */
export function formatDescriptor(descriptor: Descriptor): Uint8Array {
  const lines = ['# Disk DescriptorFile', `version=${descriptor.version}`, 'encoding="UTF-8"']
  lines.push(`CID=${descriptor.cid}`, `parentCID=${descriptor.parentCid}`)
  if (descriptor.isNativeSnapshot) lines.push('isNativeSnapshot="yes"')
  lines.push(`createType="${descriptor.createType}"`)
  if (descriptor.parentFileNameHint !== undefined) lines.push(`parentFileNameHint="${descriptor.parentFileNameHint}"`)
  for (const [key, value] of descriptor.others) lines.push(`${key}=${value}`)
  lines.push('', '# Extent description', ...descriptor.extents.map(formatExtent))
  if (descriptor.changeTrackPath !== undefined) {
    lines.push('', '# Change Tracking File', `changeTrackPath="${descriptor.changeTrackPath}"`)
  }
  lines.push('', '# The Disk Data Base', '#DDB', '')
  for (const [key, value] of descriptor.ddb) lines.push(`${key} = "${value}"`)
  for (const line of lines) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters would end or hide a line
    if (/[\u0000-\u0008\u000a-\u001f]/u.test(line) || !line.isWellFormed()) {
      throw new AgentError('USAGE', `The text ${JSON.stringify(line.slice(0, 120))} cannot be written into a descriptor.`, {
        next: 'Choose names without line breaks and control characters.',
      })
    }
  }
  return Buffer.from(`${lines.join('\n')}\n`, 'utf8')
}

function formatExtent(extent: DescriptorExtent): string {
  const start = `${extent.access} ${extent.sectors} ${extent.type}`
  if (extent.file === undefined) return start
  return `${start} "${extent.file}"${extent.offset === undefined ? '' : ` ${extent.offset}`}`
}
