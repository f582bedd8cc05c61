# librpo for other people's builds: headers, the shared library, a CMake package (rpo::rpo) and a pkg-config file.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

target_include_directories(rpo INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                         $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
install(TARGETS rpo EXPORT rpoTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/rpo DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET rpo_program)
    install(TARGETS rpo_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(TARGET rpo_bench)
    install(TARGETS rpo_bench RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/rpo)
install(EXPORT rpoTargets FILE rpoTargets.cmake NAMESPACE rpo:: DESTINATION ${package_dir})
configure_package_config_file(cmake/rpoConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/rpoConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/rpoConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/rpoConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/rpoConfigVersion.cmake
        DESTINATION ${package_dir})

# Relative to the .pc file itself, so that an installation can be moved.
file(RELATIVE_PATH RPO_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/rpo.pc.in ${CMAKE_CURRENT_BINARY_DIR}/rpo.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/rpo.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
