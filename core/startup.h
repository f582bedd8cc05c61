/* startup.h - settings of the libraries that read them when they are loaded, which is before main. */
#ifndef RPO_CORE_STARTUP_H
#define RPO_CORE_STARTUP_H

/*
 * For the first line of a program's main, before any thread exists: puts into the environment what the libraries should
 * have been told, and starts the program again, once, as the same process with the same arguments.
 *
 * OpenMP    waiting threads give their core up soon; nothing where the user has set any of OMP_WAIT_POLICY, GOMP_SPINCOUNT
 *           and KMP_BLOCKTIME.
 * OpenBLAS  where it does not know the processor and took kernels for one without AVX: those for the vector
 *           instructions that the machine has; nothing where the user has set OPENBLAS_CORETYPE.
 *
 * Nothing happens either when the program cannot be started again. Tools that lose sight of a program at its exec (valgrind
 * without --trace-children) want the variables set.
 */
void rpo_startup(char **argv);

#endif
