# The CUDA backend joins the ops. What ptxas says of each kernel (registers, spills) is kept beside its object, for
# tools/check-kernel-resources.
file(GLOB RPO_CUDA_KERNEL_SOURCES CONFIGURE_DEPENDS cuda/*.cu)
target_sources(rpo_kernels PRIVATE ${RPO_CUDA_KERNEL_SOURCES})
target_compile_definitions(rpo_kernels PRIVATE RPO_HAVE_CUDA)
target_compile_features(rpo_kernels PRIVATE cuda_std_17)
target_link_libraries(rpo_kernels PUBLIC CUDA::cublasLt CUDA::cudart_static)

# -Wpedantic and -Wshadow are left out: the host code that nvcc generates and CUDA's own headers are not clean. Host
# instrumentation by the sanitizers is left out as well: device code cannot have it, and simt/ runs the same sources
# under all of them.
target_compile_options(
    rpo_kernels PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings -Xptxas=-v -Xcompiler=-Wall,-Wextra,-Werror,-fvisibility=hidden>")
set(launcher ${PROJECT_SOURCE_DIR}/cmake/keep-ptxas-log ${CMAKE_CUDA_COMPILER_LAUNCHER})
set_target_properties(rpo_kernels PROPERTIES CUDA_COMPILER_LAUNCHER "${launcher}")
