import { type Methods, toVimFault, VimFault } from '../../wire/index.ts'
import { needNumber, needText, object, objects, text } from '../arguments.ts'
import { type Endpoint } from '../endpoint.ts'

/** HttpNfcLease. */
export function leaseMethods(endpoint: Endpoint): Methods {
  const { leases } = endpoint
  return {
    HttpNfcLease: {
      HttpNfcLeaseProgress: (call) => {
        leases.progress(call.self.ref, needNumber(call.args, 'percent'))
        return undefined
      },
      HttpNfcLeaseComplete: async (call) => {
        await leases.complete(call.self.ref)
        return undefined
      },
      HttpNfcLeaseAbort: async (call) => {
        const fault = object(object(call.args, 'fault'), 'fault')
        await leases.abort(
          call.self.ref,
          fault === undefined
            ? undefined
            : toVimFault(new VimFault(fault.$type, {}, text(object(call.args, 'fault'), 'localizedMessage') ?? '')),
        )
        return undefined
      },
      HttpNfcLeaseGetManifest: (call) => leases.manifest(call.self.ref),
      HttpNfcLeaseSetManifestChecksumType: (call) => {
        leases.setChecksumTypes(
          call.self.ref,
          objects(call.args, 'deviceUrlsToChecksumTypes').map((entry) => ({
            key: needText(entry, 'key'),
            type: text(entry, 'value') ?? '',
          })),
        )
        return undefined
      },
    },
  }
}
