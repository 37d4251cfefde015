import type { LabObject, LabRef, LabValue } from './value.ts'

/** A fault of the vSphere API by its wire name (`InvalidPowerState`), thrown by methods and task work, sent as a SOAP fault or TaskInfo.error. */
export class VimFault extends Error {
  readonly faultType: string
  readonly fields: Readonly<Record<string, LabValue>>

  constructor(faultType: string, fields: Readonly<Record<string, LabValue>> = {}, message?: string) {
    super(message ?? '')
    this.name = 'VimFault'
    this.faultType = faultType
    this.fields = fields
  }

  /** The fault as a data object. */
  get object(): LabObject {
    return { $type: this.faultType, ...this.fields }
  }

  /** `LocalizedMethodFault`, as TaskInfo.error, HttpNfcLease.error and missingSet carry it. */
  get localized(): LabObject {
    return { $type: 'LocalizedMethodFault', fault: this.object, localizedMessage: this.message }
  }
}

/** The fault to report for anything thrown by lab code: faults as they are, everything else as SystemError with its text. */
export function toVimFault(error: unknown): VimFault {
  if (error instanceof VimFault) return error
  return new VimFault('SystemError', { reason: error instanceof Error ? error.message : String(error) }, 'A general system error occurred')
}

export const notFound = (ref: LabRef): VimFault =>
  new VimFault(
    'ManagedObjectNotFound',
    { obj: ref },
    `The object '${ref.$ref}:${ref.value}' has already been deleted or has not been completely created`,
  )

export const notAuthenticated = (ref: LabRef): VimFault =>
  new VimFault('NotAuthenticated', { object: ref, privilegeId: 'System.View' }, 'The session is not authenticated.')

export const invalidArgument = (property: string, message = `A specified parameter was not correct: ${property}`): VimFault =>
  new VimFault('InvalidArgument', { invalidProperty: property }, message)
