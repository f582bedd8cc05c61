/* nvToolsExt.h - simt's stand-in for NVTX: nobody watches, but how deep ranges nest is told, so that a test sees one that
 * was left open. */
#ifndef RPO_SIMT_NVTOOLSEXT_H
#define RPO_SIMT_NVTOOLSEXT_H

#define NVTX_NO_PUSH_POP_TRACKING (-2)

/* The level of the range that begins, 0 for the outermost of the thread. */
int nvtxRangePushA(const char *message);
/* The level of the range that ends; NVTX_NO_PUSH_POP_TRACKING where none is open. */
int nvtxRangePop();

#endif
