// How the command's heap is kept, before anything else is loaded; the transport benchmark loads it too.
'use strict'
// Young garbage is collected where it is, instead of in a space that doubles up to 64 MiB: what lives long here are buffers, outside of it. What a
// socket reads is freed so much sooner that reading over the network takes half the CPU time. The process behind a mount begins with more: src/agent/holder-process.ts.
require('node:v8').setFlagsFromString('--semi-space-growth-factor=1')
