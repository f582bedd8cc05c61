/* waiting.h - how this process's OpenMP threads wait for each other. */
#ifndef RPO_CORE_WAITING_H
#define RPO_CORE_WAITING_H

/*
 * Makes waiting threads give their core up soon; for the first line of a program's main, before any thread exists.
 * An OpenMP runtime reads its settings when it is loaded, which was before main: so they are put into the
 * environment and the program starts itself again, once, as the same process with the same arguments.
 * Nothing happens when the user has set any of OMP_WAIT_POLICY, GOMP_SPINCOUNT and KMP_BLOCKTIME, nor when the
 * program cannot be started again. Tools that lose sight of a program at its exec (valgrind without
 * --trace-children) want one of the three set.
 */
void rpo_wait_politely(char **argv);

#endif
