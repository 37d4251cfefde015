import { AgentError, type MoRef } from '../core/index.ts'
import { VimFault } from './vim-fault.ts'
import { encodeField, encodeFields, escapeText, type VimFields } from './vim-data.ts'
import type { VimNode } from './vim-node.ts'

/** The namespace of every public call and answer. */
export const VIM25 = 'urn:vim25'

/** The envelope of one call. `namespace` is that of the method only: answers are in urn:vim25 always. */
export function encodeCall(method: string, self: MoRef, args: VimFields, namespace: string, operationId: string | undefined): string {
  const header = operationId === undefined ? '' : `<soapenv:Header><operationID>${escapeText(operationId)}</operationID></soapenv:Header>`
  return (
    '<?xml version="1.0" encoding="UTF-8"?>\n' +
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema"' +
    ` xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">${header}<soapenv:Body>` +
    `<${method} xmlns="${namespace}">${encodeField('_this', self)}${encodeFields(args)}</${method}>` +
    '</soapenv:Body></soapenv:Envelope>'
  )
}

/** The `returnval` elements of an answer. Throws the VimFault it carries; INTEGRITY when it answers something else. */
export function decodeAnswer(root: VimNode, method: string): readonly VimNode[] {
  const body = root.name === 'Envelope' ? root.get('Body')?.children[0] : undefined
  if (body?.name === 'Fault') throw decodeFault(body)
  if (body?.name !== `${method}Response`) {
    throw new AgentError('INTEGRITY', `The server answered ${method} with ${JSON.stringify(body?.name ?? root.name)}.`, {
      next: 'Check what answers at this address: a proxy in between, or another kind of server.',
    })
  }
  return body.all('returnval')
}

/** `<Fault>` of SOAP 1.1: the detail's xsi:type names the fault, else its element name less the suffix `Fault`. */
function decodeFault(fault: VimNode): VimFault {
  const text = fault.string('faultstring') ?? ''
  const detail = fault.get('detail')?.children[0]
  const name = detail?.type ?? detail?.name.replace(/Fault$/, '') ?? 'RuntimeFault'
  return new VimFault(name, text, detail)
}

/** A LocalizedMethodFault: TaskInfo.error, a lease's error, an entry of missingSet. */
export function decodeLocalizedFault(node: VimNode): VimFault {
  const fault = node.get('fault')
  return new VimFault(fault?.type ?? 'MethodFault', node.string('localizedMessage') ?? '', fault)
}
